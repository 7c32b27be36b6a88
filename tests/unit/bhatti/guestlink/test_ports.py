import socket
from collections.abc import AsyncIterator

import pytest
from tests.serving import serving, short_directory

from bhatti.guestlink.ports import listening, parsed

pytestmark = pytest.mark.anyio

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1 1 0
   1: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0
   2: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 3 1 0
"""
TCP6 = """\
   0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000
   1: B80D01200000000067452301EFCDAB89:0051 00000000000000000000000000000000:0000 0A 00000000:00000000
"""


def test_the_kernel_s_tables_are_understood() -> None:
    assert list(parsed(TCP)) == [("0.0.0.0", 8080), ("127.0.0.1", 80)]
    assert list(parsed(TCP6)) == [("::1", 8080), ("2001:db8::123:4567:89ab:cdef", 81)]


@pytest.mark.parametrize("line", ["", "x", "0: nonsense x 0A", "0: 01:zz x 0A", "0: 010203:0050 x 0A", "0: :0050 x 0A"])
def test_what_makes_no_sense_is_left_out(line: str) -> None:
    assert list(parsed(line)) == []


@pytest.fixture
async def own_port() -> AsyncIterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def test_a_guest_is_asked_for_them(own_port: int) -> None:
    with short_directory() as directory:
        async with serving(directory) as served:
            await served.create()
            found = await listening(await served.guest("one"))
    assert found[own_port] == ["127.0.0.1"]
    assert list(found) == sorted(found)
