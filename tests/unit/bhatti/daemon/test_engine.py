from pathlib import Path

import pytest
from tests.engines.local import LocalEngine

from bhatti.daemon import engine
from bhatti.daemon.settings import Settings, load
from bhatti.engines.docker.engine import DockerEngine
from bhatti.engines.firecracker.engine import FirecrackerEngine
from bhatti.engines.firecracker.settings import JailLimits, Limits
from bhatti.engines.qemu.engine import QemuEngine
from bhatti.errors import InvalidRequest


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings name a directory that each test has for itself."""
    monkeypatch.setattr(f"{__name__}.STATE", tmp_path)


STATE = Path("/nonexistent")


def settings(name: str, *flags: str) -> Settings:
    return load([f"state_dir={STATE}", f"engine={name}", *flags], env={}, files=[])


def test_an_engine_of_ours_is_opened_by_name() -> None:
    assert isinstance(engine.open_engine(settings("qemu", "qemu.subnet=10.9.0.0/24")), QemuEngine)


def test_docker_is_opened_with_its_own_settings() -> None:
    opened = engine.open_engine(
        settings("docker", "docker.runtime=runsc", "docker.socket=/run/d.sock", "docker.no_new_privileges=false")
    )
    assert isinstance(opened, DockerEngine)
    assert (opened.settings.runtime, opened.settings.socket) == ("runsc", Path("/run/d.sock"))
    assert not opened.settings.no_new_privileges
    assert opened.settings.sandboxes_dir == STATE / "sandboxes"


def test_firecracker_is_opened_with_its_own_settings() -> None:
    opened = engine.open_engine(
        settings(
            "firecracker", "firecracker.binary=/opt/fc", "firecracker.subnet=10.9.0.0/24", "firecracker.fork=false"
        )
    )
    assert isinstance(opened, FirecrackerEngine)
    assert (opened.settings.binary, str(opened.settings.subnet)) == ("/opt/fc", "10.9.0.0/24")
    assert not opened.settings.fork


def test_what_firecracker_may_do_is_set_by_name() -> None:
    flags = ["log_level=debug", "metrics=true", "disk_mib_per_s=1", "disk_ops_per_s=2", "net_mib_per_s=3", "jailer=j"]
    flags += ["balloon=true", "vsock=true"]
    opened = engine.open_engine(settings("firecracker", *(f"firecracker.{flag}" for flag in flags)))
    chosen = opened.settings  # type: ignore[attr-defined]  # of FirecrackerEngine
    assert (chosen.log_level, chosen.metrics, chosen.jailer) == ("debug", True, "j")
    assert (chosen.balloon, chosen.vsock) == (True, True)
    assert chosen.limits == Limits(disk_mib_per_s=1, disk_ops_per_s=2, net_mib_per_s=3)


def test_what_a_jail_may_take_is_set_by_name() -> None:
    flags = ("jail_cpu_percent=50", "jail_memory_spare_mib=64", "jail_tasks=32")
    opened = engine.open_engine(settings("firecracker", *(f"firecracker.{flag}" for flag in flags)))
    chosen = opened.settings  # type: ignore[attr-defined]  # of FirecrackerEngine
    assert chosen.jailer == "auto"
    assert chosen.jail_limits == JailLimits(cpu_percent=50, memory_spare_mib=64, tasks=32)
    with pytest.raises(InvalidRequest, match=r"firecracker\.jail_tasks: with 3 no machine would start"):
        engine.open_engine(settings("firecracker", "firecracker.jail_tasks=3"))


@pytest.mark.parametrize("flag", ["log_level=loud", "metrics=maybe", "disk_mib_per_s=-1", "net_packets_per_s=many"])
def test_what_firecracker_cannot_be_set_to_is_refused_by_name(flag: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"firecracker\.{flag.partition('=')[0]}") as caught:
        settings("firecracker", f"firecracker.{flag}")
    assert caught.value.code == "bad-setting"


@pytest.mark.parametrize(("flag", "wanted"), [("qemu.fork=false", False), ("qemu.fork=true", True)])
def test_forks_can_be_switched_off(flag: str, wanted: bool) -> None:
    opened = engine.open_engine(settings("qemu", flag))
    assert isinstance(opened, QemuEngine)
    assert opened.settings.fork is wanted


def test_any_engine_is_opened_by_module_and_class() -> None:
    assert isinstance(engine.open_engine(settings("tests.engines.local:LocalEngine")), LocalEngine)


@pytest.mark.parametrize(
    "name", ["vmware", "no.such.module:X", "tests.engines.local:Nobody", "tests.engines.local:Record"]
)
def test_what_is_no_engine_is_refused(name: str) -> None:
    for use in (engine.open_engine, engine.examine):
        with pytest.raises(InvalidRequest) as caught:
            use(settings(name))
        assert caught.value.code == "unknown-engine"


@pytest.mark.parametrize("name", ["qemu", "firecracker"])
def test_a_subnet_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"{name}\.subnet") as caught:
        engine.open_engine(settings(name, f"{name}.subnet=everything"))
    assert caught.value.code == "bad-setting"


def test_the_best_engine_here_is_opened_and_said_with_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    chosen = settings("auto", "firecracker.binary=/nonexistent/firecracker")
    with caplog.at_level("INFO", logger="bhatti.daemon.engine"):
        assert isinstance(engine.open_engine(chosen), QemuEngine)
    assert "engine qemu: no firecracker" in caplog.text
    (first, *rest) = engine.examine(chosen)
    assert (first.name, first.level) == ("engine", "ok")
    assert first.detail.startswith("qemu: no firecracker")
    assert {finding.name for finding in rest} >= {"qemu", "network"}


def test_an_engine_tells_what_it_finds(tmp_path: Path) -> None:
    findings = engine.examine(load([f"state_dir={tmp_path}", "engine=qemu"], env={}, files=[]))
    assert findings
    assert all(finding.level in ("ok", "warning", "failed") for finding in findings)
    assert engine.examine(settings("tests.engines.local:LocalEngine")) == []
