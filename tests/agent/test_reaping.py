"""Processes that lose their parents are collected, and nobody's exit code is lost on the way."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from tests.agent.agents import wait_until

if TYPE_CHECKING:
    from tests.agent.agents import Agent, LocalAgent
    from tests.agent.client import Connection


def test_orphans_do_not_stay_as_zombies(agent: Agent, connection: Connection) -> None:
    script = "for i in 1 2 3 4 5; do (sleep 0.1 & echo $!); done"
    result = connection.exec("sh", "-c", f"{script} >{agent.path('pids')}")
    assert result.code == 0
    pids = agent.sh(f"cat {agent.path('pids')}").split()
    assert len(pids) == 5
    for pid in pids:
        # A zombie would still answer to signal 0.
        wait_until(lambda pid=pid: connection.exec("kill", "-0", pid).code != 0, "the orphan was reaped")  # type: ignore[misc]


def test_exit_codes_survive_a_storm_of_orphans(agent: Agent) -> None:
    done = threading.Event()

    def storm() -> None:
        with agent.connect() as connection:
            connection.hello()
            while not done.is_set():
                connection.exec("sh", "-c", "for i in 1 2 3 4 5 6 7 8; do (true &) ; done")

    thread = threading.Thread(target=storm)
    thread.start()
    try:
        with agent.connect() as connection:
            connection.hello()
            for code in range(100):
                assert connection.exec("sh", "-c", f"exit {code}", exit_info=True).info == {"reason": "exited"}
                assert connection.exec("sh", "-c", f"exit {code}").code == code
    finally:
        done.set()
        thread.join()


def test_no_child_is_left_when_all_is_over(local: LocalAgent) -> None:
    with local.connect() as connection:
        connection.hello()
        for _ in range(20):
            connection.exec("sh", "-c", "(sleep 0.05 &) ; (true &) ; exit 3")
    wait_until(lambda: not local.children(), "all orphans were reaped")
