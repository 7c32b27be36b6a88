import sys

import pytest
from tests.unit.bhatti.cli.conftest import Bhatti

from bhatti.cli.commands.mcp import mcp
from bhatti.errors import MissingDependency


@pytest.mark.parametrize("address", ["x", "127.0.0.1:", "99999"])
def test_what_is_no_address_is_refused(bhatti: Bhatti, address: str) -> None:
    done = bhatti("mcp", "--http", address)
    assert done.code == 2
    assert "is no address" in done.err


def test_other_machines_are_not_listened_to(bhatti: Bhatti) -> None:
    done = bhatti("mcp", "--http", "0.0.0.0:0")
    assert done.code == 2
    assert "ssh -L" in done.err


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)  # as if there were none
    with pytest.raises(MissingDependency) as caught:
        mcp.main([], standalone_mode=False)
    assert caught.value.hint == "pip install 'bhatti[mcp]'"
