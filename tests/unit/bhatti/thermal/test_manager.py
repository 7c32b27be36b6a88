"""The manager over a small world whose time is a number."""

import dataclasses
from collections.abc import Callable, Iterable

import anyio
import pytest

from bhatti.errors import Busy, EngineFailure, NotFound, Unavailable
from bhatti.model.sandbox import Temperature
from bhatti.thermal.ledger import Ledger
from bhatti.thermal.manager import ROUND_S, Manager, Subject, judged
from bhatti.thermal.policy import Action, Limits
from lohar.wire.messages import Facts, ProcessFact

pytestmark = pytest.mark.anyio

QUIET = Facts()


def running(cpu_ms: int, *, at_ms: int, pid: int = 812) -> Facts:
    return Facts(processes=(ProcessFact(pid=pid, name="make", cpu_ms=cpu_ms),), uptime_ms=at_ms)


class World:
    """One sandbox, `a`, whose guest says what it is told to say."""

    def __init__(self) -> None:
        self.now = 0.0
        self.subject: Subject | None = Subject(id="a", name="one", keep_hot=False, limits=Limits())
        self.answer: Facts | Exception | None = QUIET
        self.obstacle: Exception | None = None
        self.asked = 0
        self.done: list[tuple[float, str, str]] = []
        self.during_order: Callable[[], None] = lambda: None
        self.ledger = Ledger(lambda: self.now)
        self.manager = Manager(self, self.ledger, ask_timeout_s=0.02, wait=self.wait)
        self.until = 0.0
        self.over = anyio.Event()
        self.ledger.entry("a")

    async def wait(self, seconds: float) -> None:
        """Let what was begun come to rest, then let the time go by."""
        while self.manager._at_work:
            await anyio.lowlevel.checkpoint()
        self.now += seconds
        if self.now >= self.until:
            self.over.set()
            await anyio.sleep_forever()

    async def live_until(self, moment: float) -> None:
        self.until, self.over = moment, anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.manager.run)
            await self.over.wait()
            tasks.cancel_scope.cancel()

    def running(self) -> Iterable[Subject]:
        return [] if self.subject is None else [self.subject]

    async def facts(self, sandbox_id: str) -> Facts:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is None:
            await anyio.sleep_forever()
        assert self.answer is not None
        return self.answer

    async def pause(self, sandbox_id: str, reason: str, still_idle: Callable[[], bool]) -> None:
        self._order("pause", reason, still_idle)
        self.ledger.asleep("a", reason, warm=True)

    async def stop(self, sandbox_id: str, reason: str, still_idle: Callable[[], bool]) -> None:
        self._order("stop", reason, still_idle)
        self.subject = None

    def _order(self, what: str, reason: str, still_idle: Callable[[], bool]) -> None:
        self.during_order()
        if self.obstacle is not None:
            raise self.obstacle
        self.done.append((self.now, what if still_idle() else "nothing", reason))


@pytest.fixture
async def world() -> World:
    return World()


async def test_idle_is_warm_after_half_a_minute_and_cold_after_half_an_hour(world: World) -> None:
    await world.live_until(3600)
    assert [(round(moment), what, why) for moment, what, why in world.done] == [
        (30, "pause", "idle for 30 s"),
        (1800, "stop", "idle for 30 min"),
    ]
    assert world.asked == 1  # hot and idle as far as the host could see; warm, never again


async def test_what_the_host_sees_is_not_asked_of_the_guest(world: World) -> None:
    with world.ledger.visiting("a", "exec is under way"):
        await world.live_until(3600)
        assert world.manager.reason(world.subject, Temperature.HOT) == "kept hot: exec is under way"  # type: ignore[arg-type]
    await world.live_until(3625)
    assert (world.asked, world.done) == (0, [])
    await world.live_until(3635)
    assert [what for _, what, _ in world.done] == ["pause"]


async def test_commands_are_watched_before_they_are_called_idle(world: World) -> None:
    world.answer = running(5000, at_ms=30_000)
    await world.live_until(33)
    assert world.done == []
    assert world.manager.reason(world.subject, Temperature.HOT) == "kept hot: watching whether 1 command used CPU"  # type: ignore[arg-type]
    world.answer = running(6000, at_ms=35_000)
    await world.live_until(50)
    assert world.manager.reason(world.subject, Temperature.HOT) == "kept hot: pid 812 (make) used CPU"  # type: ignore[arg-type]
    world.answer = running(6005, at_ms=70_000)
    await world.live_until(64)
    assert world.done == []
    await world.live_until(70)
    assert [what for _, what, _ in world.done] == ["pause"]


async def test_a_silent_agent_is_counted_told_and_at_last_paused(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.answer = None
    await world.live_until(52)
    assert world.manager.reason(world.subject, Temperature.HOT) == "kept hot: the agent did not answer (3 of 10 times)"  # type: ignore[arg-type]
    assert "did not answer, 3 of 10 times: nothing for 0.02 s" in caplog.text
    world.answer = Unavailable("lost the connection")
    await world.live_until(200)
    ((moment, what, why),) = world.done
    assert (round(moment), what, why) == (120, "pause", "the agent did not answer 10 times")
    assert world.asked == 10


async def test_one_answer_ends_the_silence(world: World) -> None:
    world.answer = None
    await world.live_until(45)
    world.answer = QUIET
    await world.live_until(55)
    assert [why for _, _, why in world.done] == ["idle for 50 s"]


async def test_who_comes_between_question_and_order_is_not_paused(world: World) -> None:
    world.during_order = lambda: world.ledger.awake("a")
    await world.live_until(31)
    assert [what for _, what, _ in world.done] == ["nothing"]


async def test_who_comes_while_the_guest_is_asked_makes_the_answer_worthless(world: World) -> None:
    async def facts(sandbox_id: str) -> Facts:
        world.ledger.touch("a")
        return QUIET

    world.facts = facts  # type: ignore[method-assign]
    world.now = 40
    assert world.subject is not None
    assert (await world.manager.consider(world.subject)).action is Action.KEEP
    assert world.done == []


@pytest.mark.parametrize("obstacle", [Busy("busy"), NotFound("gone")])
async def test_another_order_is_not_in_the_way_for_long(world: World, obstacle: Exception) -> None:
    world.obstacle = obstacle
    await world.live_until(32)
    world.obstacle = None
    await world.live_until(32 + 2 * ROUND_S)
    assert [what for _, what, _ in world.done] == ["pause"]


async def test_what_cannot_be_put_to_sleep_says_why_and_is_tried_again(world: World) -> None:
    world.obstacle = EngineFailure("the monitor is gone")
    await world.live_until(35)
    told = world.manager.reason(world.subject, Temperature.HOT)  # type: ignore[arg-type]
    assert told == "kept hot: cannot be put to sleep: the monitor is gone"
    world.obstacle = None
    await world.live_until(45)
    assert [what for _, what, _ in world.done] == ["pause"]


async def test_a_defect_is_logged_and_ends_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.obstacle = KeyError("oops")
    await world.live_until(35)
    assert "could not be looked after" in caplog.text
    world.obstacle = None
    await world.live_until(45)
    assert [what for _, what, _ in world.done] == ["pause"]


async def test_keep_hot_is_never_asked(world: World) -> None:
    assert world.subject is not None
    world.subject = dataclasses.replace(world.subject, keep_hot=True)
    await world.live_until(10_000)
    assert (world.asked, world.done) == (0, [])


async def test_the_reason_of_a_paused_one_says_why_it_was(world: World) -> None:
    world.ledger.asleep("a", "on request", warm=True)
    assert world.manager.reason(world.subject, Temperature.WARM) == "cold in 30 min (paused: on request)"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "after", "busy"),
    [
        (running(100, at_ms=0), running(105, at_ms=100), False),  # less than a tick
        (running(100, at_ms=0), running(110, at_ms=100), True),
        (running(100, at_ms=0), running(150, at_ms=10_000), False),  # less than a hundredth
        (running(5000, at_ms=0), running(50, at_ms=100), True),  # another process with its pid
        (running(100, at_ms=0), running(50, at_ms=100, pid=9), True),  # a new one
        (running(100, at_ms=0), Facts(uptime_ms=100), False),
    ],
)
def test_who_has_used_the_processor(before: Facts, after: Facts, busy: bool) -> None:
    told = judged(after, before)
    assert bool(told.busy) is busy
    assert told.unjudged == 0


def test_without_an_earlier_answer_nobody_is_judged() -> None:
    told = judged(running(99, at_ms=5), None)
    assert (told.busy, told.unjudged, told.in_use) == ((), 1, False)
