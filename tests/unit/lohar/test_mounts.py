from pathlib import Path

import pytest
from tests.unit.lohar.isolated import run_isolated

from bhatti.images.layer import make_layer
from lohar.config import Volume
from lohar.mounts import MountError, mount_points, mount_volume, unescape

ROOT = pytest.mark.root


def test_escaped_fields_of_the_mount_table_are_read() -> None:
    assert unescape(r"/a\040b\011c\134d") == "/a b\tc\\d"
    assert unescape(r"/plain\x") == r"/plain\x"


def test_mount_points_of_a_table() -> None:
    table = "proc /proc proc rw 0 0\ntmpfs /with\\040space tmpfs rw 0 0\nnonsense\n"
    assert mount_points(table) == {"/proc", "/with space"}


@ROOT
def test_missing_standard_file_systems_are_mounted_and_present_ones_left(tmp_path: Path) -> None:
    printed = run_isolated(
        f"""
        import os
        from lohar import mounts
        os.makedirs("{tmp_path}/root/dev"); root = "{tmp_path}/root"
        mounts.mount(mounts.Mount(source="none", target=root, fs="tmpfs", flags=0))
        for name in ("proc", "dev", "sys", "run"):
            os.makedirs(root + "/" + name, exist_ok=True)
        os.chroot(root); os.chdir("/")
        mounts.mount(mounts.Mount(source="proc", target="/proc", fs="proc"))
        wanted = [m for m in mounts.STANDARD if m.fs in ("proc", "tmpfs", "devpts", "sysfs")]
        mounts.STANDARD = tuple(wanted)
        mounts.mount_standard(); first = open("/proc/self/mounts").read()
        mounts.mount_standard(); assert open("/proc/self/mounts").read() == first
        print(sorted(mounts.mount_points(first) & {{m.target for m in wanted}}))
        print(os.readlink("/dev/fd"), os.readlink("/dev/stderr"), oct(os.stat("/tmp").st_mode))
        """,
        "--mount",
        "--net",
        "--pid",
        "--fork",
    )
    assert printed.splitlines() == [
        "['/dev/pts', '/dev/shm', '/proc', '/run', '/sys', '/tmp']",
        "/proc/self/fd /proc/self/fd/2 0o41777",
    ]


@ROOT
def test_a_failed_mount_says_what_where_and_why(tmp_path: Path) -> None:
    with pytest.raises(MountError, match=r"^cannot mount /dev/nothing \(ext4\) at .*: .*"):
        mount_volume(Volume(device="/dev/nothing", mount=str(tmp_path / "data")), 1000, 1000)


@ROOT
def test_unmounting_what_is_not_mounted_says_so(tmp_path: Path) -> None:
    printed = run_isolated(
        f"""
        from lohar import mounts
        try:
            mounts.unmount("{tmp_path}")
        except mounts.MountError as error:
            print(error)
        """,
        "--mount",
    )
    assert "cannot unmount" in printed


@ROOT
def test_a_volume_is_mounted_given_to_the_user_and_released_clean(tmp_path: Path) -> None:
    image = tmp_path / "volume.ext4"
    make_layer(image, 64)
    printed = run_isolated(
        f"""
        import os, subprocess
        from lohar import mounts
        from lohar.config import Volume
        device = subprocess.run(["losetup", "--find", "--show", "{image}"], capture_output=True, text=True,
                                check=True).stdout.strip()
        try:
            volume = Volume(device=device, mount="{tmp_path}/deep/data")
            mounts.mount_volume(volume, 1000, 1000)
            mounts.mount_volume(volume, 1000, 1000)
            assert open("/proc/self/mounts").read().count("{tmp_path}/deep/data") == 1
            print(mounts.mounted_device("{tmp_path}/deep/data") == device, os.stat("{tmp_path}/deep/data").st_uid)
            open("{tmp_path}/deep/data/kept", "w").write("x")
            mounts.release_volumes()
            print(mounts.mounted_device("{tmp_path}/deep/data"))
            mounts.mount_volume(volume.replace(read_only=True), 1000, 1000)
            print(sorted(os.listdir("{tmp_path}/deep/data")))
            try:
                open("{tmp_path}/deep/data/new", "w")
            except OSError as error:
                print(error.strerror)
            with open("{tmp_path}/deep/data/kept"):
                mounts.release_volumes()
            print(mounts.mounted_device("{tmp_path}/deep/data") == device)
            mounts.unmount("{tmp_path}/deep/data")
        finally:
            subprocess.run(["losetup", "--detach", device], check=True)
        """,
        "--mount",
    )
    assert printed.splitlines() == [
        "True 1000",
        "None",
        "['kept', 'lost+found']",
        "Read-only file system",
        "True",
    ]


@ROOT
def test_a_volume_whose_writer_was_killed_can_still_be_mounted_read_only(tmp_path: Path) -> None:
    image, copy = tmp_path / "volume.ext4", tmp_path / "copy.ext4"
    make_layer(image, 64)
    printed = run_isolated(
        f"""
        import os, shutil, subprocess
        from lohar import mounts
        from lohar.config import Volume
        def loop(path, *options):
            return subprocess.run(["losetup", "--find", "--show", *options, path], capture_output=True, text=True,
                                  check=True).stdout.strip()
        first = loop("{image}")
        second = ""
        try:
            os.makedirs("{tmp_path}/a")
            mounts.mount(mounts.Mount(source=first, target="{tmp_path}/a", fs="ext4", flags=0))
            open("{tmp_path}/a/kept", "w").write("x"); os.sync()
            open("{tmp_path}/a/more", "w").write("x")
            subprocess.run(["blockdev", "--flushbufs", first], check=True)
            shutil.copyfile("{image}", "{copy}")  # as it is while mounted: with a journal to replay
            mounts.unmount("{tmp_path}/a")
            second = loop("{copy}", "--read-only")
            mounts.mount_volume(Volume(device=second, mount="{tmp_path}/b", read_only=True), 1000, 1000)
            print("kept" in os.listdir("{tmp_path}/b"))
            mounts.release_volumes()
            try:
                mounts.mount_volume(Volume(device=second, mount="{tmp_path}/b", fs="xfs", read_only=True), 1000, 1000)
            except mounts.MountError as error:
                print("xfs" in str(error))
        finally:
            for device in filter(None, (first, second)):
                subprocess.run(["losetup", "--detach", device], check=True)
        """,
        "--mount",
    )
    assert printed.split() == ["True", "True"]


@ROOT
def test_the_config_drive_is_found_by_its_file_on_any_of_its_places(tmp_path: Path) -> None:
    good, empty = tmp_path / "good", tmp_path / "empty"
    for directory in (good, empty):
        directory.mkdir()
    (good / "config.json").write_text("{}")
    printed = run_isolated(
        f"""
        import os
        from lohar import mounts
        mounts.CONFIG_MOUNT = "{tmp_path}/config"
        real = mounts.mount
        def bind(entry):  # a drive is anything that can be mounted; here, a directory
            if entry.source.endswith("broken"):
                raise mounts.MountError("wrong file system")
            real(entry.replace(fs="none", flags=4096))
        mounts.mount = bind
        os.mkdir("{tmp_path}/broken")
        mounts.CONFIG_DEVICES = ("{tmp_path}/absent", "{tmp_path}/broken", "{empty}")
        try:
            mounts.mount_config()
        except mounts.MountError as error:
            print("no config drive" in str(error), mounts.mounted_device("{tmp_path}/config"))
        mounts.CONFIG_DEVICES += ("{good}",)
        print(mounts.mount_config() == mounts.mount_config() == "{tmp_path}/config/config.json")
        """,
        "--mount",
    )
    assert printed.split() == ["True", "None", "True"]
