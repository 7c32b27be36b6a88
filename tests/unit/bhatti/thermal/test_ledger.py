from bhatti.model.sandbox import Temperature
from bhatti.thermal.ledger import Ledger
from bhatti.thermal.policy import GuestFacts


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_visit_counts_from_its_beginning_to_its_end() -> None:
    time = Time()
    ledger = Ledger(time)
    entry = ledger.entry("a")
    time.now = 110
    with ledger.visiting("a", "exec is under way") as visit:
        assert (entry.visits, entry.last_active) == ([visit], 110)
        time.now = 150
    assert (entry.visits, entry.last_active) == ([], 150)


def test_a_visit_makes_what_the_guest_said_stale() -> None:
    ledger = Ledger(Time())
    entry = ledger.entry("a")
    entry.guest, entry.next_look, entry.trouble = GuestFacts(attached_sessions=1), 999.0, "kept hot: no space"
    with ledger.visiting("a", "x"):
        now = ledger.entry("a")
        assert (now.guest, now.next_look, now.trouble) == (None, 0.0, "")


def test_a_sandbox_that_is_destroyed_during_a_visit_does_not_come_back() -> None:
    ledger = Ledger(Time())
    with ledger.visiting("a", "x"):
        before = ledger.entry("a")
        ledger.forget("a")
    assert ledger.entry("a") is not before
    assert ledger.entry("a").visits == []


def test_asleep_and_awake() -> None:
    ledger = Ledger(Time())
    entry = ledger.entry("a")
    assert entry.temperature is Temperature.HOT
    entry.unanswered = 10
    ledger.asleep("a", "idle for 30 s", warm=True)
    assert (entry.temperature, entry.asleep_because, entry.unanswered) == (Temperature.WARM, "idle for 30 s", 0)
    ledger.awake("a")
    assert (entry.temperature, entry.asleep_because) == (Temperature.HOT, "")


def test_whether_one_is_warm_can_be_asked_of_any() -> None:
    ledger = Ledger(Time())
    ledger.asleep("a", "on request", warm=True)
    assert ledger.is_warm("a")
    ledger.forget("a")
    assert not ledger.is_warm("a")
    assert ledger._entries == {}
