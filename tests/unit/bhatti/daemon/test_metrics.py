import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.engines.local import LocalEngine
from tests.serving import Served

from bhatti.daemon.metrics import TIMED, Metrics
from bhatti.daemon.recovery import Action, Step
from bhatti.engines.base import Engine
from bhatti.errors import NotFound
from bhatti.model.sandbox import Status, Temperature

pytestmark = pytest.mark.anyio

Found = dict[tuple[str, ...], float]


def figures(metrics: Metrics, *sandboxes: tuple[Status, Temperature]) -> Found:
    """Return every sample by its name and the values of its labels, in the order of their names."""
    text = metrics.render(sandboxes).decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_answers_are_counted_by_operation_and_class_of_status() -> None:
    metrics = Metrics()
    for status in (200, 201, 404):
        metrics.answered("exec", status, 0.003)
    found = figures(metrics)
    assert found["bhatti_request_seconds_count", "exec", "2xx"] == 2
    assert found["bhatti_request_seconds_count", "exec", "4xx"] == 1
    assert found["bhatti_request_seconds_bucket", "0.005", "exec", "2xx"] == 2
    assert found["bhatti_request_seconds_bucket", "0.0025", "exec", "2xx"] == 0


def test_sandboxes_are_what_they_are_now() -> None:
    metrics = Metrics()
    hot, cold = (Status.RUNNING, Temperature.HOT), (Status.STOPPED, Temperature.COLD)
    assert figures(metrics, hot, hot, cold)["bhatti_sandboxes", "running", "hot"] == 2
    found = figures(metrics, cold)
    assert ("bhatti_sandboxes", "running", "hot") not in found
    assert found["bhatti_sandboxes", "stopped", "cold"] == 1
    assert found["bhatti_sandboxes", "failed", "cold"] == 0


def test_wakes_snapshots_and_leaks_are_counted() -> None:
    metrics = Metrics()
    metrics.woken("exec")
    metrics.snapshot("qemu", 300_000)
    metrics.recovered([Action(Step.REMOVE, "aa", "x"), Action(Step.LEAVE, "bb", "x"), Action(Step.KEEP, "cc", "x")])
    found = figures(metrics)
    assert found["bhatti_wakes_total", "exec"] == 1
    assert found["bhatti_snapshot_bytes_sum", "qemu"] == 300_000
    assert found[("bhatti_leaks_found_total",)] == 2
    assert found["bhatti_recovered_total", "keep"] == 1


async def test_calls_of_the_engine_are_timed_by_how_they_ended(served: Served) -> None:
    metrics = Metrics()
    made = await served.create()
    engine = metrics.timed(served.engine)
    await engine.stop(made.id)
    await engine.start(made.id)
    with pytest.raises(NotFound):
        await engine.destroy("nobody")
    assert engine.name == "local"
    found = figures(metrics)
    assert found["bhatti_engine_call_seconds_count", "stop", "local", "done"] == 1
    assert found["bhatti_engine_call_seconds_count", "start", "local", "restored"] == 1
    assert found["bhatti_engine_call_seconds_count", "destroy", "local", "failed"] == 1


async def test_a_timed_engine_passes_everything_else_on(served: Served) -> None:
    engine = Metrics().timed(served.engine)
    assert await engine.list() == []
    assert engine.capabilities == served.engine.capabilities


def test_what_is_timed_is_what_engines_have() -> None:
    assert {name for name in TIMED if hasattr(Engine, name)} == TIMED
    assert issubclass(LocalEngine, Engine)
