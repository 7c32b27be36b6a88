"""Figures about the daemon's work, as Prometheus reads them (https://prometheus.io/docs/instrumenting/exposition_formats).

What happens is counted as it happens; what is (sandboxes by temperature) is looked up when somebody asks.
"""

import functools
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from bhatti.daemon.recovery import Action, Step
from bhatti.engines.base import Engine, Machine
from bhatti.model.sandbox import Status, Temperature

REQUEST_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)
"""From a look at metadata (under a millisecond) to a boot under emulation (seconds) and long commands."""

ENGINE_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)

SNAPSHOT_BUCKETS = tuple(float(1 << power) for power in range(16, 37, 2))
"""64 KiB, the state of devices alone, to 64 GiB."""

TIMED = frozenset(
    {
        "adopt",
        "create",
        "prepare",
        "fork",
        "destroy",
        "pause",
        "resume",
        "stop",
        "start",
        "ensure_hot",
        "verify_snapshot",
        "checkpoint",
    }
)
"""The calls of an engine that act on machines. The others are looks, or happen a thousand times a second."""


class Metrics:
    """One daemon's figures."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Histogram(
            "bhatti_request_seconds",
            "Time to the end of the answer, by operation and class of status.",
            ("operation", "status"),
            buckets=REQUEST_BUCKETS_S,
            registry=self._registry,
        )
        self._calls = Histogram(
            "bhatti_engine_call_seconds",
            "Time of a call to the engine, by how the machine came up, or `failed`.",
            ("engine", "call", "how"),
            buckets=ENGINE_BUCKETS_S,
            registry=self._registry,
        )
        self._sandboxes = Gauge(
            "bhatti_sandboxes", "Sandboxes, as they are now.", ("status", "temperature"), registry=self._registry
        )
        self._wakes = Counter(
            "bhatti_wakes",
            "Sleeping sandboxes woken, by the operation that needed them.",
            ("cause",),
            registry=self._registry,
        )
        self._snapshots = Histogram(
            "bhatti_snapshot_bytes",
            "What a sandbox's memory took on the disk when it was stopped.",
            ("engine",),
            buckets=SNAPSHOT_BUCKETS,
            registry=self._registry,
        )
        self._recovered = Counter(
            "bhatti_recovered", "What was done about each sandbox at the start.", ("step",), registry=self._registry
        )
        self._leaks = Counter(
            "bhatti_leaks_found", "Machines that no row of the store knew of.", registry=self._registry
        )

    def answered(self, operation: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(operation, f"{status // 100}xx").observe(seconds)

    def woken(self, cause: str) -> None:
        """Count a sandbox that was woken because an operation needed it."""
        self._wakes.labels(cause).inc()

    def snapshot(self, engine: str, size_bytes: int) -> None:
        """Count a snapshot of that size."""
        self._snapshots.labels(engine).observe(size_bytes)

    def recovered(self, actions: Iterable[Action]) -> None:
        """Count what a start has found."""
        for action in actions:
            self._recovered.labels(action.step.value).inc()
            if action.step in (Step.REMOVE, Step.LEAVE):
                self._leaks.inc()

    def render(self, sandboxes: Iterable[tuple[Status, Temperature]]) -> bytes:
        """Return all figures as text; `sandboxes` are status and temperature of each."""
        self._sandboxes.clear()
        for status in (Status.RUNNING, Status.STOPPED, Status.FAILED):
            self._sandboxes.labels(status.value, Temperature.COLD.value)  # a series that is 0 is there all the same
        for found_status, temperature in sandboxes:
            self._sandboxes.labels(found_status.value, temperature.value).inc()
        return generate_latest(self._registry)

    def timed(self, engine: Engine) -> Engine:
        """Return `engine`, its calls timed from now on."""
        return cast(Engine, _Timed(engine, self._calls))


class _Timed:
    """An engine to whoever calls it; passes everything on, and times what acts on machines."""

    def __init__(self, engine: Engine, calls: Histogram) -> None:
        self._engine = engine
        self._calls = calls

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the engine has under that name
        found = getattr(self._engine, name)
        return self._watched(name, found) if name in TIMED else found

    def _watched(self, name: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(call)
        async def watched(*arguments: object, **named: object) -> object:
            began, how = time.perf_counter(), "failed"
            try:
                result = await call(*arguments, **named)
                how = result.how if isinstance(result, Machine) and name in COMING_UP else "done"
            finally:
                self._calls.labels(self._engine.name, name, how).observe(time.perf_counter() - began)
            return result

        return watched


COMING_UP = frozenset({"create", "fork", "start", "ensure_hot"})
"""The calls after which a machine runs that did not: there is more than one way to that."""
