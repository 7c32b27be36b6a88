import anyio
import pytest

from bhatti.daemon.publishing import Publishing
from bhatti.gateway.published import Published, Site

pytestmark = pytest.mark.anyio


async def test_a_site_cuts_off_whom_it_serves_and_nobody_else() -> None:
    one, two = Site("one", 80), Site("two", 80)
    with one.serving() as cut, two.serving() as spared:
        one.cut()
        assert (cut.cancel_called, spared.cancel_called) == (True, False)
        two.cut()
        await anyio.sleep_forever()
    with one.serving() as later:
        await anyio.lowlevel.checkpoint()
    assert not later.cancel_called
    one.cut()


def test_the_interface_has_the_only_copy_of_the_docstrings() -> None:
    for name in Published.__abstractmethods__:
        assert (getattr(Publishing, name).__doc__ or "") == "See `Published`."
