import re

import msgspec

from bhatti.operations import table
from bhatti.operations.operation import Operation, Scope, Streams
from bhatti.operations.table import ALL, CHECKPOINT_CREATE, FILE_WATCH, HEALTH, SANDBOX_FORK
from bhatti.operations.tables import files, guest, ports


def test_what_a_module_declares_is_in_the_table() -> None:
    declared = [value for value in vars(table).values() if isinstance(value, Operation)]
    assert declared
    assert not [operation.name for operation in declared if operation not in ALL]


def test_names_and_routes_are_unique() -> None:
    assert len({operation.name for operation in ALL}) == len(ALL)
    assert len({(operation.method, operation.path) for operation in ALL}) == len(ALL)


def test_only_what_tells_nothing_of_anybody_is_for_everybody() -> None:
    public = [operation for operation in ALL if operation.scope is Scope.PUBLIC]
    assert public == [HEALTH, table.OPENAPI, table.PAGE]


def test_every_operation_says_in_a_sentence_what_it_does() -> None:
    assert all(re.fullmatch(r"[A-Z].*\.", operation.summary, re.DOTALL) for operation in ALL)


def test_what_enters_a_guest_or_copies_one_wakes_it_and_what_reads_metadata_does_not() -> None:
    entering = {*guest.OPERATIONS, *files.OPERATIONS, *ports.OPERATIONS} - {table.PORT_LIST_ALL}
    woken_for = {*entering, SANDBOX_FORK, CHECKPOINT_CREATE}
    for operation in ALL:
        assert operation.wakes == (operation in woken_for), operation.name


def test_operations_with_events_say_which() -> None:
    for operation in ALL:
        if operation.streams is Streams.EVENTS:
            assert operation.event is not None, operation.name
            assert operation.result is not None or operation is FILE_WATCH, operation.name


def test_every_type_of_the_table_has_a_schema() -> None:
    types = [t for o in ALL for t in (o.request, o.result, o.query, o.event) if t is not None]
    schemas, components = msgspec.json.schema_components(types)
    assert len(schemas) == len(types)
    assert "Sandbox" in components
