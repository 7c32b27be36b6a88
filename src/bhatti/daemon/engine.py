"""Which engine runs the sandboxes: one of ours by name, or any class as `module:Class`."""

import importlib
import inspect

from bhatti.daemon.settings import Settings
from bhatti.engines import registry
from bhatti.engines.base import Engine
from bhatti.errors import InvalidRequest


def open_engine(settings: Settings) -> Engine:
    """Return the engine of the settings, not yet entered.

    A name is looked up by `engines.registry`. `module:Class` is imported, and called with the state directory: for
    engines that live outside this package. Raises `InvalidRequest` (code `unknown-engine`).
    """
    module_name, colon, class_name = settings.engine.partition(":")
    if not colon:
        return registry.open_engine(settings.engine, settings)
    try:
        made = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as err:
        raise InvalidRequest(f"engine {settings.engine!r} cannot be loaded: {err}", code="unknown-engine") from err
    if not (inspect.isclass(made) and issubclass(made, Engine)):
        raise InvalidRequest(f"engine {settings.engine!r} is not an Engine", code="unknown-engine")
    engine: Engine = made(settings.state_dir)  # type: ignore[call-arg]  # what such a class must accept
    return engine
