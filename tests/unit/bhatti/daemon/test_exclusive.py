from dataclasses import dataclass

import anyio
import pytest

from bhatti.daemon.exclusive import Claims, exclusive
from bhatti.errors import Busy

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Subject:
    id: str


class Worker:
    def __init__(self) -> None:
        self.claims = Claims()
        self.entered = anyio.Event()
        self.release = anyio.Event()

    @exclusive(per="sandbox", busy="reject")
    async def _destroy(self, subject: Subject, answer: int) -> int:
        self.entered.set()
        await self.release.wait()
        return answer

    @exclusive(per="sandbox", busy="reject", after={"destroy"})
    async def follow(self, subject: Subject) -> str | None:
        return self.claims.holder(subject.id)

    @exclusive(per="sandbox", busy="reject")
    async def fail(self, subject: Subject) -> None:
        raise KeyError(subject.id)


async def test_a_second_order_for_the_same_sandbox_is_refused_and_names_the_first() -> None:
    worker = Worker()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker._destroy, Subject("aa"), 1)
        await worker.entered.wait()
        with pytest.raises(Busy, match="destroy is under way, cannot fail it"):
            await worker.fail(Subject("aa"))
        worker.release.set()


async def test_an_order_waits_for_those_that_it_says_and_is_refused_for_others() -> None:
    worker = Worker()
    followed: list[str | None] = []

    async def follow() -> None:
        followed.append(await worker.follow(Subject("aa")))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker._destroy, Subject("aa"), 1)
        await worker.entered.wait()
        tasks.start_soon(follow)
        tasks.start_soon(follow)
        await anyio.wait_all_tasks_blocked()
        assert followed == []
        worker.release.set()
    assert followed == ["follow", "follow"]
    with worker.claims.hold("aa", "fork"), pytest.raises(Busy, match="fork is under way, cannot follow it"):
        await worker.follow(Subject("aa"))


async def test_another_sandbox_is_not_concerned() -> None:
    worker = Worker()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker._destroy, Subject("aa"), 1)
        await worker.entered.wait()
        with pytest.raises(KeyError):
            await worker.fail(Subject("bb"))
        worker.release.set()


async def test_the_claim_ends_with_the_order_however_that_ends() -> None:
    worker = Worker()
    for _ in range(2):
        with pytest.raises(KeyError):
            await worker.fail(Subject("aa"))
    worker.release.set()
    assert await worker._destroy(Subject("aa"), 42) == 42
    assert worker.claims.holder("aa") is None


async def test_a_cancelled_order_lets_go() -> None:
    worker = Worker()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker._destroy, Subject("aa"), 1)
        await worker.entered.wait()
        assert worker.claims.holder("aa") == "destroy"
        tasks.cancel_scope.cancel()
    assert worker.claims.holder("aa") is None
