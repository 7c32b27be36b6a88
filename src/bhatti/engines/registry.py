"""Engines by name, loaded on first use: nobody pays for the import of one that is not asked for."""

import importlib
from typing import Any

from bhatti.engines.base import Engine, Finding
from bhatti.errors import InvalidRequest

ENGINES = {
    "docker": ("bhatti.engines.docker.engine", "DockerEngine"),
    "firecracker": ("bhatti.engines.firecracker.engine", "FirecrackerEngine"),
    "qemu": ("bhatti.engines.qemu.engine", "QemuEngine"),
}
"""Name → module and class. The class is called with its own kind of settings."""


def open_engine(name: str, settings: Any) -> Engine:  # noqa: ANN401  # each engine has settings of its own
    """Return the engine called `name`, not yet entered. Raises `InvalidRequest` (code `unknown-engine`)."""
    engine: Engine = _load(name)(settings)
    return engine


def examine(name: str, settings: Any) -> list[Finding]:  # noqa: ANN401  # see above
    """Return what the engine called `name` finds on this host; blocks. Raises `InvalidRequest` like `open_engine`."""
    findings: list[Finding] = _load(name).examine(settings)
    return findings


def _load(name: str) -> Any:  # noqa: ANN401  # a class whose constructor the ABC cannot know
    try:
        module, class_name = ENGINES[name]
    except KeyError:
        raise InvalidRequest(
            f"there is no engine {name!r}", hint=f"known engines: {', '.join(sorted(ENGINES))}", code="unknown-engine"
        ) from None
    return getattr(importlib.import_module(module), class_name)
