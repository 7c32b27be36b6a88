from bhatti.engines.stages import Stages


def test_each_stage_is_announced_as_it_begins_and_timed_when_it_ends() -> None:
    announced: list[str] = []
    stages = Stages(announced.append, "images")
    stages.begin("layer")
    stages.begin("qemu")
    assert announced == ["images", "layer", "qemu"]
    assert list(stages.timings_ms) == ["images", "layer"]
    stages.end()
    assert list(stages.timings_ms) == ["images", "layer", "qemu", "total"]
    parts = sum(value for name, value in stages.timings_ms.items() if name != "total")
    assert abs(parts - stages.timings_ms["total"]) <= 0.4
