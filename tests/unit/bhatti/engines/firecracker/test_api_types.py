"""The vendor's OpenAPI document is no part of this repository: the test that reads it needs its path."""

import enum
import os
import types as python_types
import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bhatti.engines.firecracker import api_types as types

VARIABLE = "BHATTI_FIRECRACKER_OPENAPI"

DEFINITIONS: dict[type[msgspec.Struct], str] = {
    types.TokenBucket: "TokenBucket",
    types.RateLimiter: "RateLimiter",
    types.BootSource: "BootSource",
    types.MachineConfiguration: "MachineConfiguration",
    types.Drive: "Drive",
    types.NetworkInterface: "NetworkInterface",
    types.EntropyDevice: "EntropyDevice",
    types.Balloon: "Balloon",
    types.BalloonStatistics: "BalloonStats",
    types.Vsock: "Vsock",
    types.Action: "InstanceActionInfo",
    types.VmState: "Vm",
    types.SnapshotCreate: "SnapshotCreateParams",
    types.MemoryBackend: "MemoryBackend",
    types.NetworkOverride: "NetworkOverride",
    types.SnapshotLoad: "SnapshotLoadParams",
    types.InstanceInfo: "InstanceInfo",
    types.Version: "FirecrackerVersion",
    types.Fault: "Error",
}

ANSWERS = {types.InstanceInfo, types.Version, types.Fault, types.BalloonStatistics}
"""Of these, what we do not read may be left out."""

KINDS = {int: "integer", str: "string", bool: "boolean", tuple: "array"}


@pytest.fixture(scope="module")
def definitions() -> dict[str, Any]:
    path = os.environ.get(VARIABLE)
    if not path:
        pytest.skip(f"needs Firecracker's OpenAPI document, named by {VARIABLE}")
    yaml = pytest.importorskip("yaml")
    found: dict[str, Any] = yaml.safe_load(Path(path).read_text())["definitions"]
    return found


def test_every_body_that_is_sent_is_compared() -> None:
    assert set(typing.get_args(types.Request)) <= DEFINITIONS.keys()


def test_a_field_that_says_nothing_is_not_sent() -> None:
    assert msgspec.json.encode(types.EntropyDevice()) == b"{}"
    drive = types.Drive(drive_id="vda", path_on_host="vda", is_read_only=False, is_root_device=False)
    assert msgspec.json.decode(msgspec.json.encode(drive)) == {
        "drive_id": "vda",
        "path_on_host": "vda",
        "is_read_only": False,
        "is_root_device": False,
    }


@pytest.mark.parametrize("struct", DEFINITIONS, ids=lambda struct: struct.__name__)
def test_our_types_are_those_of_the_vendor(struct: type[msgspec.Struct], definitions: dict[str, Any]) -> None:
    theirs = definitions[DEFINITIONS[struct]]
    ours = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    assert ours.keys() <= theirs["properties"].keys()
    if struct not in ANSWERS:
        left_out = struct.__struct_config__.omit_defaults
        always_sent = {name for name, field in ours.items() if field.required or not left_out}
        assert set(theirs.get("required", ())) <= always_sent
    for name, field in ours.items():
        _compare(field.type, theirs["properties"][name])


def _compare(ours: Any, theirs: dict[str, Any]) -> None:  # noqa: ANN401  # any annotation of a field
    if isinstance(ours, python_types.UnionType):
        (ours,) = (part for part in typing.get_args(ours) if part is not type(None))
    if "$ref" in theirs:
        assert DEFINITIONS[ours] == theirs["$ref"].rpartition("/")[2]
    elif typing.get_origin(ours) is typing.Literal:
        assert set(typing.get_args(ours)) <= set(theirs["enum"])
    else:
        kind = typing.get_origin(ours) or ours
        assert not issubclass(kind, enum.Enum)
        assert KINDS[kind] == theirs["type"]
