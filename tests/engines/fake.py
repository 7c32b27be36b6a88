"""An engine that only remembers: for tests of decisions about machines, where no machine is needed."""

from typing import Self

from bhatti.engines.base import Capabilities, CauseOfDeath, Engine, Machine, ProgressCallback
from bhatti.errors import NotFound
from bhatti.guestlink.client import GuestLink
from bhatti.model.sandbox import SandboxSpec, Status, Temperature


def machine(sandbox_id: str, status: Status = Status.RUNNING, cause: str | None = None) -> Machine:
    """A machine as an engine would tell of it."""
    return Machine(
        id=sandbox_id,
        status=status,
        temperature=Temperature.HOT if status is Status.RUNNING else Temperature.COLD,
        address="10.0.0.9",
        accelerator="tcg",
        cause=None if cause is None else CauseOfDeath(kind="guest-panic", detail=cause, console_tail="panic"),
    )


class FakeEngine(Engine):
    """Knows the machines it is given, and forgets those it is told to destroy."""

    name = "local"

    def __init__(self, machines: list[Machine]) -> None:
        self.machines = {found.id: found for found in machines}
        self.destroyed: list[str] = []
        self.failing: dict[str, Exception] = {}

    @property
    def capabilities(self) -> Capabilities:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def aclose(self) -> None:
        pass

    async def adopt(self) -> list[Machine]:
        return list(self.machines.values())

    async def create(self, spec: SandboxSpec, *, progress: ProgressCallback | None = None) -> Machine:
        self.machines[spec.id] = machine(spec.id)
        return self.machines[spec.id]

    async def destroy(self, sandbox_id: str) -> None:
        if sandbox_id in self.failing:
            raise self.failing[sandbox_id]
        if self.machines.pop(sandbox_id, None) is None:
            raise NotFound(f"no machine {sandbox_id}")
        self.destroyed.append(sandbox_id)

    async def status(self, sandbox_id: str) -> Machine:
        if sandbox_id not in self.machines:
            raise NotFound(f"no machine {sandbox_id}")
        return self.machines[sandbox_id]

    async def list(self) -> list[Machine]:
        return list(self.machines.values())

    def link(self, sandbox_id: str) -> GuestLink:
        raise NotImplementedError

    def console(self, sandbox_id: str, *, max_bytes: int = 65_536) -> str:
        return ""
