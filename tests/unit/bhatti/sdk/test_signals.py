import os
import select
import signal

from bhatti.sdk.signals import caught, pending


def test_signals_become_bytes_that_a_poll_can_wait_for() -> None:
    with caught([signal.SIGUSR1, signal.SIGUSR2]) as descriptor:
        assert pending(descriptor) == []
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR2)
        assert select.select([descriptor], [], [], 5)[0] == [descriptor]
        assert pending(descriptor) == [signal.SIGUSR1, signal.SIGUSR2]


def test_handlers_are_as_they_were_afterwards() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with caught([signal.SIGUSR1]) as descriptor:
        assert signal.getsignal(signal.SIGUSR1) is not before
    assert signal.getsignal(signal.SIGUSR1) is before
    assert not os.path.exists(f"/proc/self/fd/{descriptor}")  # noqa: PTH110


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        with caught([signal.SIGUSR1]) as descriptor:
            signal.raise_signal(signal.SIGUSR1)
            assert pending(descriptor) == []
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_storm_of_signals_blocks_nobody() -> None:
    with caught([signal.SIGUSR1]) as descriptor:
        for _ in range(70_000):
            os.kill(os.getpid(), signal.SIGUSR1)
        assert len(pending(descriptor)) == 1024
