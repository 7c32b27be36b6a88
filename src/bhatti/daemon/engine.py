"""Which engine runs the sandboxes: one of ours by name, the best one here, or any class as `module:Class`."""

import importlib
import inspect
import ipaddress
import logging
from pathlib import Path
from typing import Any

import msgspec

from bhatti.daemon import engine_choice
from bhatti.daemon.engine_choice import AUTO
from bhatti.daemon.settings import Settings
from bhatti.engines import registry
from bhatti.engines.base import Engine, Finding
from bhatti.errors import InvalidRequest

log = logging.getLogger(__name__)


def open_engine(settings: Settings) -> Engine:
    """Return the engine of the settings, not yet entered.

    A name is looked up by `engines.registry`, `auto` is decided by `engine_choice`. `module:Class` is imported, and
    called with the state directory: for engines that live outside this package. Raises `InvalidRequest` (code
    `unknown-engine` or `bad-setting`).
    """
    if settings.engine == AUTO:
        choice = _choice(settings)
        log.info("engine %s: %s", choice.engine, choice.reason)
        return open_engine(msgspec.structs.replace(settings, engine=choice.engine))
    if ":" not in settings.engine:
        return registry.open_engine(settings.engine, _settings_of(settings))
    return _foreign(settings.engine)(Path(settings.state_dir))  # type: ignore[call-arg]  # see above


def examine(settings: Settings) -> list[Finding]:
    """Return what the engine of the settings finds on this host; blocks for a moment. Raises as `open_engine` does."""
    if settings.engine == AUTO:
        choice = _choice(settings)
        chosen = Finding(name="engine", level="ok", detail=f"{choice.engine}: {choice.reason}")
        return [chosen, *examine(msgspec.structs.replace(settings, engine=choice.engine))]
    if ":" not in settings.engine:
        return registry.examine(settings.engine, _settings_of(settings))
    return _foreign(settings.engine).examine(Path(settings.state_dir))


def _choice(settings: Settings) -> engine_choice.Choice:
    return engine_choice.choose(settings, registry.examine(engine_choice.BEST, _firecracker_settings(settings)))


def _foreign(name: str) -> type[Engine]:
    module_name, _, class_name = name.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as err:
        raise InvalidRequest(
            f"engine {name!r} cannot be loaded: {err}",
            hint="set engine to auto, qemu, firecracker or docker",
            code="unknown-engine",
        ) from err
    if not (inspect.isclass(found) and issubclass(found, Engine)):
        raise InvalidRequest(
            f"engine {name!r} is not an Engine",
            hint="set engine to auto, qemu, firecracker or docker",
            code="unknown-engine",
        )
    return found


def _settings_of(settings: Settings) -> Any:  # noqa: ANN401  # each engine has settings of its own
    """Return the settings of the engine that is named; None for one that has none, or is not known."""
    match settings.engine:
        case "qemu":
            return _qemu_settings(settings)
        case "firecracker":
            return _firecracker_settings(settings)
        case "docker":
            return _docker_settings(settings)
        case _:
            return None


def _docker_settings(settings: Settings) -> Any:  # noqa: ANN401  # its type is imported below
    from bhatti.engines.docker.settings import DockerSettings  # only who uses it pays for it

    chosen = settings.docker
    return DockerSettings(
        state_dir=Path(settings.state_dir),
        images_dir=Path(settings.images_dir),
        socket=Path(chosen.socket) if chosen.socket else None,
        runtime=chosen.runtime,
        network=chosen.network,
        dns=tuple(chosen.dns),
        pull=chosen.pull,
        no_new_privileges=chosen.no_new_privileges,
        pids_limit=chosen.pids_limit,
        pool=chosen.pool,
        boot_timeout_s=chosen.boot_timeout_s,
        stop_timeout_s=chosen.stop_timeout_s,
    )


def _qemu_settings(settings: Settings) -> Any:  # noqa: ANN401  # its type is imported below
    from bhatti.engines.qemu.settings import DEFAULT_DNS, QemuSettings  # only who uses it pays for it

    chosen = settings.qemu
    return QemuSettings(
        state_dir=Path(settings.state_dir),
        images_dir=Path(settings.images_dir),
        binary=chosen.binary,
        network=chosen.network,
        bridge_name=chosen.bridge_name or None,
        subnet=_subnet("qemu", chosen.subnet),
        accelerator=chosen.accelerator,
        boot_timeout_s=chosen.boot_timeout_s,
        dns=tuple(chosen.dns) or DEFAULT_DNS,
        outside=chosen.outside,
        fork=chosen.fork,
        ready_pool=chosen.ready_pool,
    )


def _firecracker_settings(settings: Settings) -> Any:  # noqa: ANN401  # its type is imported below
    # Only who uses it pays for it.
    from bhatti.engines.firecracker.settings import FirecrackerSettings, JailLimits, Limits
    from bhatti.engines.qemu.settings import DEFAULT_DNS

    chosen = settings.firecracker
    return FirecrackerSettings(
        state_dir=Path(settings.state_dir),
        images_dir=Path(settings.images_dir),
        binary=chosen.binary,
        bridge_name=chosen.bridge_name or None,
        subnet=_subnet("firecracker", chosen.subnet),
        boot_timeout_s=chosen.boot_timeout_s,
        dns=tuple(chosen.dns) or DEFAULT_DNS,
        fork=chosen.fork,
        ready_pool=chosen.ready_pool,
        balloon=chosen.balloon,
        vsock=chosen.vsock,
        log_level=chosen.log_level,
        metrics=chosen.metrics,
        jailer=chosen.jailer,
        jail_limits=JailLimits(
            cpu_percent=chosen.jail_cpu_percent,
            memory_spare_mib=chosen.jail_memory_spare_mib,
            tasks=chosen.jail_tasks,
        ),
        limits=Limits(
            disk_mib_per_s=chosen.disk_mib_per_s,
            disk_ops_per_s=chosen.disk_ops_per_s,
            net_mib_per_s=chosen.net_mib_per_s,
            net_packets_per_s=chosen.net_packets_per_s,
        ),
    )


def _subnet(engine: str, text: str) -> ipaddress.IPv4Network | None:
    try:
        return ipaddress.IPv4Network(text) if text else None
    except ValueError as err:
        raise InvalidRequest(f"{engine}.subnet: {err}", hint="for example 10.64.0.0/24", code="bad-setting") from err
