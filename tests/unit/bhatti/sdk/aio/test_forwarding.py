import socket
import threading

import pytest
from tests.daemons import Daemon

from bhatti.sdk.aio.forwarding import AsyncForward

pytestmark = pytest.mark.anyio


async def test_a_block_that_was_left_listens_no_more_and_leaves_no_thread(served: Daemon) -> None:
    async with AsyncForward(served.endpoint, "one", 9) as forward:
        assert forward.port == 9
        socket.create_connection(forward.address, 60).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(forward.address, 60)
    assert not [thread for thread in threading.enumerate() if thread.daemon]
