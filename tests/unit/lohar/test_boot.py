import json
import os
from pathlib import Path

import pytest
from tests.unit.lohar.isolated import run_isolated

from lohar.boot import Timings, inject_once
from lohar.config import AgentConfig, InjectedFile

ROOT = pytest.mark.root


def test_timings_say_how_long_each_part_took() -> None:
    timings = Timings("init=1.50 modules=1.75 mounts=2.00")
    timings.mark("python")
    timings.mark("mounts")
    found = timings.milliseconds()
    assert (found["kernel"], found["initramfs"]) == (1500, 250)
    assert list(found) == ["kernel", "initramfs", "mounts", "python", "total"]
    assert sum(found.values()) - found["total"] == pytest.approx(found["total"], abs=len(found))


def test_timings_do_without_the_initramfs_and_with_nonsense() -> None:
    timings = Timings("init modules=x =")
    timings.mark("python")
    assert list(timings.milliseconds()) == ["python", "total"]


def files(text: bytes) -> tuple[InjectedFile, ...]:
    return (InjectedFile(path="/home/a", content=text),)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user, which needs root")
def test_files_are_written_once_for_each_identity(tmp_path: Path) -> None:
    path = tmp_path / "home/a"
    inject_once(AgentConfig(sandbox_id="one", files=files(b"first")), root=str(tmp_path))
    path.write_bytes(b"edited by the user")
    inject_once(AgentConfig(sandbox_id="one", files=files(b"first")), root=str(tmp_path))
    assert path.read_bytes() == b"edited by the user"
    inject_once(AgentConfig(sandbox_id="two", files=files(b"second")), root=str(tmp_path))
    assert path.read_bytes() == b"second"
    inject_once(AgentConfig(sandbox_id="two", generation=1, files=files(b"third")), root=str(tmp_path))
    assert path.read_bytes() == b"third"


def test_without_files_no_mark_is_left(tmp_path: Path) -> None:
    inject_once(AgentConfig(sandbox_id="one"), root=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@ROOT
def test_an_address_for_an_interface_that_is_not_there_ends_the_boot() -> None:
    printed = run_isolated(
        """
        from lohar import boot
        from lohar.config import AgentConfig
        try:
            boot.apply_network(AgentConfig(), "ip=10.0.0.2::10.0.0.1")
        except boot.BootError as error:
            print(error)
        """,
        "--net",
    )
    assert printed == "cannot set eth0 to 10.0.0.2: No such device\n"


WHOLE_BOOT = """
import ctypes, fcntl, json, os, resource, subprocess, sys  # before the chroot, which hides Python's own library
from lohar import boot, machine, mounts
root = "{root}"
os.makedirs(root)
mounts.mount(mounts.Mount(source="none", target=root, fs="tmpfs", flags=0))
for name in ("proc", "dev", "sys", "run/bhatti/config", "tmp", "etc", "workspace"):
    os.makedirs(root + "/" + name)
open(root + "/run/bhatti/config/config.json", "w").write({config!r})
open(root + "/etc/passwd", "w").write("lohar:x:1000:1000::/home/lohar:/bin/sh\\n")
subprocess.run(["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "peer"], check=True)
mounts.mount(mounts.Mount(source=root + "/run", target=root + "/run", fs="none", flags=4096))
{before}
os.chroot(root); os.chdir("/")
mounts.mount(mounts.Mount(source="proc", target="/proc", fs="proc"))
for name in ("/dev", "/sys"):  # stand-ins for file systems that this kernel has only one of
    mounts.mount(mounts.Mount(source="tmpfs", target=name, fs="tmpfs"))
mounts.STANDARD = tuple(m for m in mounts.STANDARD if m.fs != "cgroup2")
real_open = open
def opened(path, *args, **kwargs):
    return real_open("/etc/cmdline" if path == "/proc/cmdline" else path, *args, **kwargs)
boot.open = opened
real_open("/etc/cmdline", "w").write("quiet ip=10.0.0.2::10.0.0.1:255.255.255.0:box:eth0:off:9.9.9.9:")
os.environ["LOHAR_BOOT"] = "init=0.01 modules=0.02 mounts=0.03"
"""

NAMESPACES = ("--mount", "--net", "--uts", "--pid", "--fork", "--kill-child")


@ROOT
def test_a_machine_is_set_up_from_its_config_drive_to_the_ready_line(tmp_path: Path) -> None:
    config = {
        "sandbox_id": "abc",
        "hostname": "box",
        "token": "t",
        "files": {"/home/lohar/.env": {"content": "QT0x", "mode": "0600"}},
    }
    code = WHOLE_BOOT.format(root=tmp_path / "root", config=json.dumps(config), before="")
    code += """
config = boot.boot()
boot.announce_ready()
print(json.dumps([
    [config.uid, config.home, config.cwd, config.token, config.pid1],
    os.uname().nodename, open("/etc/resolv.conf").read(), open("/home/lohar/.env").read(),
    len(open("/etc/machine-id").read()), os.getcwd(), "LOHAR_BOOT" in os.environ,
    resource.getrlimit(resource.RLIMIT_NOFILE)[0],
]))
"""
    ready, facts = run_isolated(code, *NAMESPACES).splitlines()
    assert ready.startswith("lohar: ready {")
    assert list(json.loads(ready.removeprefix("lohar: ready "))) == [
        "kernel", "initramfs", "mounts", "python", "network", "setup", "listen", "total",
    ]  # fmt: skip
    agent, name, resolv, env, id_length, cwd, left, soft_limit = json.loads(facts)
    assert agent == [1000, "/home/lohar", "/workspace", "t", True]
    assert (name, resolv, env) == ("box", "nameserver 9.9.9.9\n", "A=1")
    assert (id_length, cwd, left, soft_limit) == (33, "/", False, 8192)


@ROOT
@pytest.mark.parametrize(
    ("config", "before", "reason"),
    [
        ('{"token": 7}', "", "config.json: token"),
        ('{"volumes": [{"device": "/dev/vde", "mount": "/data"}]}', "", "cannot mount /dev/vde (ext4) at /data"),
        ('{"files": {"/proc/nothing/x": {"content": ""}}}', "", "cannot write the file /proc/nothing/x"),
        ("{}", 'os.unlink(root + "/run/bhatti/config/config.json")', "no config drive"),
    ],
)
def test_what_cannot_be_set_up_is_said_on_the_console_and_ends_the_machine(
    tmp_path: Path, config: str, before: str, reason: str
) -> None:
    code = WHOLE_BOOT.format(root=tmp_path / "root", config=config, before=before)
    code += """
machine.GRACE_S = 0.1
def stop():
    print("power off", flush=True)
boot.power_off = stop
machine.power_off = stop
try:
    boot.boot()
except (boot.BootError, ValueError, OSError):
    print("raised where the power stays on")
"""
    said, *rest = run_isolated(code, *NAMESPACES).splitlines()
    assert said.startswith("lohar: boot failed: ")
    assert reason in said
    assert rest == ["power off", "raised where the power stays on"]
