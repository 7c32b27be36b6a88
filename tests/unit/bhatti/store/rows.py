"""Records for the tests of the store."""

import datetime

from bhatti.model.sandbox import GuestFile, SandboxSpec, Status
from bhatti.store.sandboxes import Facts, Record


def record(sandbox_id: str = "00000000000000aa", name: str = "one", status: Status = Status.RUNNING) -> Record:
    spec = SandboxSpec(
        id=sandbox_id,
        name=name,
        image="base",
        cpus=1,
        memory_mib=512,
        disk_mib=1024,
        token="secret",
        env={"KEY": "value"},
        files=(GuestFile(path="/etc/x", content=b"\x00\xff"),),
    )
    return Record(
        id=sandbox_id,
        name=name,
        status=status,
        engine="local",
        spec=spec,
        created_at=datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.UTC),
        facts=Facts(address="10.0.0.2", timings_ms={"kernel": 1.5}),
    )
