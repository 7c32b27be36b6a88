import os
from pathlib import Path

import pytest

from lohar.config import AgentConfig
from lohar.users import User, find_user, resolve

PASSWD = """\
root:x:0:0:root:/root:/bin/bash
daemon:x:1:1::/usr/sbin:/usr/sbin/nologin
broken line
node:x:1000:1000::/home/node:/bin/bash
odd:x:abc:1::/:/bin/sh
bare:x:1001:1001:::
"""
GROUP = "root:x:0:\nnode:x:1000:\nsudo:x:27:node,lohar\ndocker:x:999:root,node\nbad:x:zz:node\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return tmp_path


def test_an_account_is_found_by_name_and_by_number_with_all_its_groups(root: Path) -> None:
    node = User(name="node", uid=1000, gid=1000, home="/home/node", shell="/bin/bash", groups=(1000, 27, 999))
    assert find_user("node", root=str(root)) == node
    assert find_user("1000", root=str(root)) == node


def test_unknown_and_malformed_accounts_are_not_found(root: Path) -> None:
    assert find_user("nobody", root=str(root)) is None
    assert find_user("odd", root=str(root)) is None
    assert find_user("broken line", root=str(root)) is None


def test_an_account_without_home_and_shell_gets_those_that_always_exist(root: Path) -> None:
    bare = find_user("bare", root=str(root))
    assert bare is not None
    assert (bare.home, bare.shell) == ("/", "/bin/sh")


def test_a_root_without_tables_has_root_and_no_other_accounts(tmp_path: Path) -> None:
    for name in ("root", "0"):
        root = find_user(name, root=str(tmp_path))
        assert root is not None
        assert (root.name, root.uid, root.gid, root.groups) == ("root", 0, 0, (0,))
    assert find_user("lohar", root=str(tmp_path)) is None


def test_the_configured_user_brings_its_ids_and_home(root: Path) -> None:
    config = resolve(AgentConfig(user="root"), root=str(root))
    assert (config.uid, config.gid, config.home, config.cwd) == (0, 0, "/root", "/root")


def test_commands_start_in_the_workspace_where_there_is_one(root: Path) -> None:
    (root / "workspace").mkdir()
    assert resolve(AgentConfig(user="node"), root=str(root)).cwd == "/workspace"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory to another user, which needs root")
def test_a_missing_user_is_made(root: Path) -> None:
    (root / "etc/passwd").write_text(PASSWD.rstrip("\n"))  # the last line is not complete
    (root / "bin").mkdir()
    (root / "bin/sh").touch()
    config = resolve(AgentConfig(), root=str(root))
    assert (config.user, config.uid, config.home, config.cwd) == ("lohar", 1000, "/home/lohar", "/home/lohar")
    made = find_user("lohar", root=str(root))
    assert made == User(name="lohar", uid=1000, gid=1000, home="/home/lohar", shell="/bin/sh", groups=(1000, 27))
    assert (root / "home/lohar").stat().st_uid == 1000
    assert find_user("bare", root=str(root)) is not None
    again = (root / "etc/passwd").read_text()
    assert resolve(AgentConfig(), root=str(root)) == config
    assert (root / "etc/passwd").read_text() == again


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory to another user, which needs root")
def test_a_user_is_made_in_an_image_without_any(tmp_path: Path) -> None:
    (tmp_path / "home/lohar").mkdir(parents=True)
    config = resolve(AgentConfig(), root=str(tmp_path))
    assert find_user("lohar", root=str(tmp_path)) is not None
    assert (tmp_path / "home/lohar").stat().st_uid == os.geteuid(), "an existing home stays whose it is"
    assert config.home == "/home/lohar"
