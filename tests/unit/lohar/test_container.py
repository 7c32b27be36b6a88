import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.lohar.isolated import SOURCE, run_isolated

from bhatti.images.programs import propagation
from lohar.config import ConfigError
from lohar.container import listen, prepare, run, take_name

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user, which needs root")


def write_config(folder: Path, **config: object) -> str:
    path = folder / "config.json"
    path.write_text(json.dumps({"sandbox_id": "s1", "hostname": "box", "token": "secret"} | config))
    return str(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "data").mkdir()
    return root


@pytest.fixture(autouse=True)
def same_folder_and_umask(monkeypatch: pytest.MonkeyPatch) -> None:
    """`prepare` changes both of this process."""
    monkeypatch.chdir(".")


@ROOT
def test_it_puts_in_place_what_only_the_inside_can(root: Path, tmp_path: Path) -> None:
    path = write_config(tmp_path, files={"/etc/given": {"content": "aGk=", "mode": "0600"}})
    config = prepare(path, ["/data"], root=str(root))
    assert (config.token, config.user, config.uid, config.pid1) == ("secret", "lohar", 1000, True)
    assert (root / "etc/given").read_bytes() == b"hi"
    assert (root / "data").stat().st_uid == 1000
    assert len((root / "etc/machine-id").read_text().strip()) == 32
    assert "lohar:x:1000:" in (root / "etc/passwd").read_text()


@ROOT
def test_a_second_start_changes_nothing(root: Path, tmp_path: Path) -> None:
    path = write_config(tmp_path, files={"/etc/given": {"content": "aGk="}})
    prepare(path, root=str(root))
    (root / "etc/given").write_text("edited")
    before = {file: file.read_bytes() for file in root.rglob("*") if file.is_file()}
    prepare(path, root=str(root))
    assert {file: file.read_bytes() for file in root.rglob("*") if file.is_file()} == before


def test_a_configuration_that_makes_no_sense_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        prepare(write_config(tmp_path, files={"relative": {"content": ""}}), root=str(root))
    with pytest.raises(FileNotFoundError):
        prepare(str(tmp_path / "none"), root=str(root))


def test_any_user_may_connect_to_its_sockets_and_an_old_one_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "control.sock")
    listen(path).close()
    before = os.umask(0o077)
    try:
        with listen(path) as sock, socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            sock.accept()[0].close()
            assert os.stat(path).st_mode & 0o777 == 0o666  # noqa: PTH116 - as short as it gets
    finally:
        assert os.umask(before) == 0o077, "the umask is as it was"


def test_outside_of_a_container_it_refuses_to_be_the_end_of_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "control", "forward"]) == 1
    assert "not the init" in capsys.readouterr().err


@ROOT
def test_as_an_init_it_says_what_is_missing() -> None:
    code = "from lohar.container import run; print(run(['only-one']))"
    assert run_isolated(code, "--pid", "--fork").strip() == "2"


@ROOT
def test_as_an_init_it_fails_with_one_line_on_the_console(tmp_path: Path) -> None:
    code = f"from lohar.container import run; print(run([{str(tmp_path / 'none')!r}, 'control', 'forward']))"
    output = run_isolated(code, "--pid", "--fork").splitlines()
    assert output[0].startswith("lohar: boot failed: ")
    assert output[1] == "1"


@ROOT
def test_as_an_init_it_serves_and_ends_with_all_others_when_told_to(root: Path, tmp_path: Path) -> None:
    """In a root of its own with this machine's programs, so that the account it makes is not this machine's."""
    (root / "run").mkdir()
    for name in ("proc", "dev", "sys", "tmp"):
        (root / name).mkdir()
    config = write_config(root, files={})
    inside = f"""
        set -e
        for name in /usr /bin /sbin /lib /lib64 {sys.base_prefix} {SOURCE}; do
            mkdir -p {root}$name; mount --bind $name {root}$name
        done
        mount -t proc proc {root}/proc; mount --bind /dev {root}/dev
        exec chroot {root} {os.path.realpath(sys.executable)} -B -c 'import sys; sys.path.insert(0, "{SOURCE}")
from lohar.container import run
sys.exit(run(["/{Path(config).name}", "/run/control.sock", "/run/forward.sock"]))'
    """
    spaces = ["--mount", f"--propagation={propagation()}", "--pid", "--fork", "--kill-child"]
    command = ["unshare", *spaces, "sh", "-c", inside]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "lohar: ready {}\n"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(root / "run/control.sock"))
        pid = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
        os.kill(pid, 15)
        assert process.wait(60) == 0


def test_a_container_made_before_it_had_a_name_takes_it(root: Path) -> None:
    (root / "etc/hostname").write_text("ready-1234\n")
    (root / "etc/hosts").write_text("127.0.0.1\tlocalhost\n172.17.0.2\tready-1234\n10.0.0.1\tready-1234-not\n")
    inodes = [(root / "etc" / name).stat().st_ino for name in ("hostname", "hosts")]
    take_name("box", root=str(root))
    assert (root / "etc/hostname").read_text() == "box\n"
    assert (root / "etc/hosts").read_text() == "127.0.0.1\tlocalhost\n172.17.0.2\tbox\n10.0.0.1\tready-1234-not\n"
    assert [(root / "etc" / name).stat().st_ino for name in ("hostname", "hosts")] == inodes, "mounts stay in place"


def test_one_that_has_its_name_is_left_alone(root: Path) -> None:
    take_name("box", root=str(root))
    assert list((root / "etc").iterdir()) == []
    (root / "etc/hostname").write_text("box\n")
    (root / "etc/hostname").chmod(0o444)
    before = (root / "etc/hostname").stat().st_mtime_ns
    take_name("box", root=str(root))
    assert (root / "etc/hostname").stat().st_mtime_ns == before
