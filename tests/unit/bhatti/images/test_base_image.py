import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.bhatti.images.conftest import debugfs

from bhatti.errors import MissingDependency
from bhatti.images import programs
from bhatti.images.artefacts import ArtefactStore, silent
from bhatti.images.base_image import PACKAGES, build_base, host_suite, installed_versions, make_tree_image
from bhatti.images.store import ImageStore

DEBIAN = 'ID=debian\nVERSION_CODENAME=bookworm\nVERSION_ID="12"\n'


def test_the_suite_is_the_hosts() -> None:
    assert host_suite(DEBIAN) == "bookworm"
    assert host_suite(DEBIAN.replace("debian", '"debian"').replace("bookworm", '"trixie"')) == "trixie"


@pytest.mark.parametrize("text", ["", "ID=ubuntu\nVERSION_CODENAME=noble\n", "ID=debian\n"])
def test_a_host_that_is_not_debian_is_told(text: str) -> None:
    with pytest.raises(MissingDependency) as caught:
        host_suite(text)
    assert caught.value.code == "not-debian"


def test_a_host_without_mmdebstrap_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(programs, "_ADMIN_DIRECTORIES", "/nowhere")
    with pytest.raises(MissingDependency) as caught:
        host_suite(DEBIAN)
    assert caught.value.hint == "install it: apt-get install mmdebstrap"


def test_who_is_not_root_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MissingDependency) as caught:
        build_base(tmp_path / "root.ext4", tmp_path, "bookworm", [])
    assert caught.value.code == "needs-root"
    assert "sudo bhatti image build" in (caught.value.hint or "")


def test_installed_packages_are_read_from_dpkgs_status(tmp_path: Path) -> None:
    (tmp_path / "status").write_text(
        "Package: a\nStatus: install ok installed\nVersion: 1:2-3\nDescription: x\n Version: 9\n\n"
        "Package: b\nStatus: deinstall ok config-files\nVersion: 1\n\n"
    )
    assert installed_versions(tmp_path / "status") == {"a": "1:2-3"}


def test_a_tree_fits_its_image_whatever_it_is_made_of(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for number in range(700):
        (tree / f"d{number % 70}").mkdir(parents=True, exist_ok=True)
        (tree / f"d{number % 70}/f{number}").write_bytes(b"x" * (number % 5000))
    (tree / "large").write_bytes(os.urandom(3 << 20))
    (tree / "long").symlink_to("x" * 200)
    make_tree_image(tmp_path / "image.ext4", tree, label="test")
    assert debugfs(tmp_path / "image.ext4", "cat /d69/f69") == "x" * 69
    assert (tmp_path / "image.ext4").stat().st_size < 40 << 20


@pytest.fixture(scope="module")
def root(built: Path) -> Path:
    return ImageStore(built).boot_files("base").base


@pytest.mark.timeout(600)
def test_the_base_image_has_what_an_agent_expects(root: Path) -> None:
    listing = debugfs(root, "ls /usr/bin", "ls /usr/local/bin", "ls /bin", "ls /usr/sbin", "ls /sbin")
    names = set(listing.split())
    for program in ("bash", "curl", "fd", "git", "ip", "jq", "less", "ping", "python3", "rg", "sudo", "ps", "pip3"):
        assert program in names, program


@pytest.mark.timeout(600)
def test_the_base_image_has_its_user_its_workspace_and_a_locale_that_warns_nobody(root: Path) -> None:
    assert "lohar:x:1000:1000:" in debugfs(root, "cat /etc/passwd")
    assert "NOPASSWD: ALL" in debugfs(root, "cat /etc/sudoers.d/lohar")
    assert "Mode:  0440" in debugfs(root, "stat /etc/sudoers.d/lohar")
    workspace = debugfs(root, "stat /workspace")
    assert "Type: directory" in workspace
    assert "User:  1000   Group:  1000" in workspace
    assert "LC_CTYPE" in debugfs(root, "ls /usr/lib/locale/en_US.utf8")


@pytest.mark.timeout(600)
def test_the_base_image_has_nothing_that_each_machine_must_have_of_its_own(root: Path) -> None:
    assert debugfs(root, "cat /etc/machine-id") == ""
    names = debugfs(root, "ls /etc").split()
    assert "hostname" not in names
    assert "resolv.conf" not in names
    assert "Package: locales" not in debugfs(root, "cat /var/lib/dpkg/status")
    assert set(PACKAGES) - {"locales"} <= {
        line.removeprefix("Package: ")
        for line in debugfs(root, "cat /var/lib/dpkg/status").splitlines()
        if line.startswith("Package: ")
    }


KILLED = """
import sys
from pathlib import Path
from bhatti.images.artefacts import ArtefactStore, silent
from bhatti.images.base_image import build_base, host_suite
from bhatti.images.packages import Apt
store = ArtefactStore(Path(sys.argv[1]))
with store.locked(silent) as lock, store.staging() as work:
    (work / "base").mkdir()
    apt = Apt(work / "apt", held_lock=lock)
    apt.ensure_updated()
    suite = host_suite(Path("/etc/os-release").read_text())
    build_base(work / "root.ext4", work / "base", suite, apt.debian_sources(suite), held_lock=lock,
               on_step=lambda done, total: print(done, flush=True))
"""


@pytest.mark.root
@pytest.mark.timeout(300)
def test_a_build_of_the_base_that_is_killed_leaves_neither_process_nor_mount_nor_file(tmp_path: Path) -> None:
    directory = tmp_path / "images"
    builder = subprocess.Popen([sys.executable, "-c", KILLED, directory], stdout=subprocess.PIPE, text=True)
    with builder:
        assert builder.stdout is not None
        # The fifth line says that packages are being unpacked into the new root.
        for line in builder.stdout:
            if int(line) >= 5:
                break
        builder.kill()
    store = ArtefactStore(directory)
    with store.locked(silent):  # waits for what the builder had started
        assert list((directory / "staging").iterdir()) == []
        assert busy_below(directory) == []
    assert str(directory) not in Path("/proc/self/mounts").read_text()
    assert [path.name for path in directory.iterdir()] == ["lock"]


def busy_below(directory: Path) -> list[str]:
    """Return the command lines of processes that name `directory` or have their root there."""
    busy = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if process.name != str(os.getpid()) and (
                str(directory) in command or str((process / "root").readlink()).startswith(str(directory))
            ):
                busy.append(command)
        except OSError:
            continue
    return busy
