"""`AsyncSandbox` is `Sandbox`, awaited: every public name, signature and summary of the one is in the other."""

import importlib
import inspect
import pkgutil
import re
from types import ModuleType

import pytest

import bhatti.sdk.sync
from bhatti import AsyncSandbox, Sandbox
from bhatti.operations.examples import SANDBOX
from bhatti.sdk.aio.driver import Driver as AsyncDriver
from bhatti.sdk.duplex import Duplex
from bhatti.sdk.endpoint import Endpoint
from bhatti.sdk.sync.driver import Driver

MODULES = {"parts", "sandbox", "streams", "watch"}

AWAITED = {
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
}


def plain(text: object) -> str:
    """Return the name of a type, whichever flavour it is of."""
    return re.sub(r"\bbhatti\.sdk\.(aio|sync)\b", "bhatti.sdk", str(text)).replace("Async", "")


def classes(flavour: str) -> dict[str, type]:
    """The classes that people have to do with; sockets are beneath them."""
    found = {}
    for name in sorted(MODULES):
        module: ModuleType = importlib.import_module(f"bhatti.sdk.{flavour}.{name}")
        for kind, cls in inspect.getmembers(module, inspect.isclass):
            if cls.__module__ == module.__name__ and not kind.startswith("_") and not issubclass(cls, Duplex):
                found[plain(kind)] = cls
    return found


SYNC, ASYNC = classes("sync"), classes("aio")


def members(cls: type) -> dict[str, object]:
    """What there is to call or ask, inherited things included, under the names that it has where it blocks."""
    found = {}
    for name, member in inspect.getmembers_static(cls):
        name = AWAITED.get(name, name)
        if not name.startswith("_") or name in AWAITED.values():
            found[name] = member
    return found


def function(member: object) -> object:
    if isinstance(member, property):
        return member.fget
    return member.__func__ if isinstance(member, classmethod | staticmethod) else member


def described(member: object) -> tuple[str, ...]:
    """What both flavours must agree on: kind, parameters with their types and defaults, answer, summary."""
    called = function(member)
    assert inspect.isfunction(called)
    signature = inspect.signature(called)
    parameters = [
        plain(parameter.replace(annotation=plain(inspect.formatannotation(parameter.annotation))))
        for parameter in signature.parameters.values()
    ]
    summary = plain((inspect.getdoc(called) or "").partition("\n")[0])
    kind = type(member).__name__
    return (kind, *parameters, plain(inspect.formatannotation(signature.return_annotation)), summary)


PAIRS = [(kind, name) for kind in SYNC for name in members(SYNC[kind])]


def test_the_same_classes() -> None:
    assert set(SYNC) == set(ASYNC)
    assert {found.name for found in pkgutil.iter_modules(bhatti.sdk.sync.__path__)} - {"driver"} == MODULES
    assert SYNC["Sandbox"] is Sandbox
    assert ASYNC["Sandbox"] is AsyncSandbox
    assert len(PAIRS) > 50


@pytest.mark.parametrize("kind", SYNC)
def test_the_same_names_and_summaries(kind: str) -> None:
    assert set(members(SYNC[kind])) == set(members(ASYNC[kind]))
    first, second = (inspect.getdoc(found[kind]) or "" for found in (SYNC, ASYNC))
    assert first.partition("\n")[0].replace("threads", "tasks") == second.partition("\n")[0]


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_the_same_signature_and_summary(kind: str, name: str) -> None:
    first, second = members(SYNC[kind])[name], members(ASYNC[kind])[name]
    assert described(first) == described(second)
    if name in AWAITED.values() or isinstance(first, property):
        return
    # What is a conversation is entered by `async with`, or iterated over; everything else is awaited.
    answer = inspect.signature(function(second)).return_annotation  # type: ignore[arg-type]
    assert inspect.iscoroutinefunction(function(second)) != hasattr(answer, "__aenter__")


def test_the_same_parts() -> None:
    endpoint = Endpoint(path="/nowhere")
    first = vars(Sandbox(Driver(endpoint), SANDBOX, owned=False))
    second = vars(AsyncSandbox(AsyncDriver(endpoint), SANDBOX, owned=False))
    public = {name: plain(type(part)) for name, part in first.items() if not name.startswith("_")}
    assert {"files", "sessions", "ports"} <= set(public)
    assert {name: plain(type(part)) for name, part in second.items() if not name.startswith("_")} == public
