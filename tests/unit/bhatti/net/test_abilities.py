import os
import subprocess
import sys

import pytest

from bhatti.net import tap
from bhatti.net.abilities import bridge_ability

PROGRAM = "from bhatti.net.abilities import bridge_ability as b; a = b(); print(a.able, a.reason)"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it is about what root can do")


@needs_root
def test_root_with_everything_is_able() -> None:
    assert bridge_ability().able


@needs_root
def test_a_missing_tun_device_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tap, "TUN_DEVICE", "/dev/net/none")
    assert "/dev/net/none" in bridge_ability().reason


@needs_root
def test_missing_nft_is_the_reason_and_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path: None)
    ability = bridge_ability()
    assert not ability.able
    assert "apt install nftables" in ability.reason


def test_a_plain_user_is_told_what_is_lacking() -> None:
    drop = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-all"] if os.geteuid() == 0 else []
    done = subprocess.run([*drop, sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("False not root")
