import os
import signal

import anyio
import pytest
from tests.serving import Served

from bhatti.model.sandbox import Status

pytestmark = pytest.mark.anyio


async def test_a_death_is_written_down_unless_an_order_is_at_work(served: Served) -> None:
    made = await served.create()
    following = served.service._following
    record, machine = await following.look(served.service._catalogue.find(made.id))
    assert (record.status, machine is not None) == (Status.RUNNING, True)
    descriptor = os.pidfd_open(int(made.engine_meta["pid"]))
    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    await anyio.wait_readable(descriptor)
    os.close(descriptor)
    with served.service.claims.hold(made.id, "stop"):
        assert (await following.look(record))[0].status is Status.RUNNING
    dead, _ = await following.look(record)
    assert dead.status is Status.FAILED
    assert [row.status for row in await served.journal.sandboxes()] == [Status.FAILED]
    events = len(await served.journal.events())
    await following.look(record)
    assert len(await served.journal.events()) == events


async def test_a_machine_that_nobody_has_is_a_failure(served: Served) -> None:
    made = await served.create()
    await served.engine.destroy(made.id)
    record, machine = await served.service._following.look(served.service._catalogue.find(made.id))
    assert machine is None
    assert record.cause is not None
    assert (record.status, record.cause.detail) == (Status.FAILED, "its machine is gone")
