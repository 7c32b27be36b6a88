import anyio
import pytest
from tests.serving import Served

from bhatti.errors import BhattiError, Conflict, InvalidRequest, OutOfSpace
from bhatti.operations import types

pytestmark = pytest.mark.anyio


async def labelled(served: Served, name: str, **labels: str) -> types.Sandbox:
    return await served.service.create(types.SandboxCreate(name=name, labels=labels), lambda stage: None)


async def edit(served: Served, **fields: object) -> types.Sandbox:
    return await served.service.edit("one", types.SandboxEdit(**fields))  # type: ignore[arg-type]


async def test_what_is_given_changes_and_the_rest_stays(served: Served) -> None:
    await labelled(served, "one", team="red", stage="1")
    changed = await edit(served, keep_hot=True, labels_add={"x": "y"}, labels_remove=["stage"], cold_after_s=0)
    assert (changed.keep_hot, changed.labels, changed.cold_after_s) == (True, {"team": "red", "x": "y"}, 0)
    assert changed.thermal_reason == "kept hot: keep_hot is set"
    changed = await edit(served, keep_hot=False, warm_after_s=5)
    assert (changed.keep_hot, changed.warm_after_s, changed.cold_after_s) == (False, 5, 0)
    assert (await edit(served, cold_after_s=None)).cold_after_s is None
    (row,) = await served.journal.sandboxes()
    assert (row.preferences.labels, row.preferences.warm_after_s) == (changed.labels, 5)
    assert [event.kind for event in await served.journal.events()] == ["created", "edited", "edited", "edited"]


async def test_a_new_name_is_the_one_it_is_found_by(served: Served) -> None:
    made = await labelled(served, "one")
    assert (await edit(served, name="two")).id == made.id
    with pytest.raises(BhattiError):
        await served.service.sandbox("one")
    assert (await (await served.guest("two")).exec(["true"])).exit_code == 0
    await served.service.stop_sandbox("two")
    assert [row.name for row in await served.journal.sandboxes()] == ["two"]
    await labelled(served, "one")  # the old name is free


@pytest.mark.parametrize(
    ("fields", "error", "code"),
    [
        ({"name": "two"}, Conflict, "name-taken"),
        ({"name": "a b"}, InvalidRequest, "bad-name"),
        ({"labels_add": {"bhatti.sh/x": ""}}, InvalidRequest, "bad-label"),
        ({}, InvalidRequest, "nothing-to-change"),
    ],
)
async def test_what_cannot_be_changed_is_refused_and_changes_nothing(
    served: Served, fields: dict[str, object], error: type[BhattiError], code: str
) -> None:
    await labelled(served, "one", team="red")
    await labelled(served, "two")
    with pytest.raises(error) as caught:
        await edit(served, **fields)
    assert caught.value.code == code
    assert [row.name for row in await served.journal.sandboxes()] == ["one", "two"]
    assert (await served.service.sandbox("one")).labels == {"team": "red"}


async def test_its_own_name_is_not_taken(served: Served) -> None:
    await labelled(served, "one")
    assert (await edit(served, name="one", keep_hot=True)).name == "one"


async def test_a_store_that_fails_leaves_the_sandbox_as_it_was(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    await labelled(served, "one")

    async def fail(*args: object) -> None:
        raise OutOfSpace("the store cannot be written")

    with monkeypatch.context() as patch:
        patch.setattr(served.journal, "note", fail)
        with pytest.raises(OutOfSpace):
            await edit(served, name="two")
    assert (await served.service.sandbox("one")).name == "one"


async def test_a_change_waits_for_an_order_and_is_not_lost_by_it(served: Served) -> None:
    made = await labelled(served, "one")
    async with anyio.create_task_group() as tasks:
        with served.service.claims.hold(made.id, "stop"):
            tasks.start_soon(lambda: edit(served, name="two"))
            await anyio.wait_all_tasks_blocked()
            assert (await served.service.sandbox(made.id)).name == "one"
    assert (await served.service.sandbox(made.id)).name == "two"


async def test_what_sleeps_sleeps_on(served: Served) -> None:
    await labelled(served, "one")
    await served.service.pause_sandbox("one")
    assert (await edit(served, labels_add={"a": "b"})).thermal == "warm"
    await served.service.stop_sandbox("one")
    assert (await edit(served, labels_add={"a": "c"})).thermal == "cold"
    assert (served.engine.resumes, served.engine.starts) == (0, 0)


@pytest.mark.parametrize(
    ("label", "names"),
    [(None, ["two", "one"]), ("team", ["two", "one"]), ("team=red", ["one"]), ("team=", []), ("none", [])],
)
async def test_sandboxes_are_listed_by_label(served: Served, label: str | None, names: list[str]) -> None:
    await labelled(served, "one", team="red")
    await labelled(served, "two", team="blue")
    listed = await served.service.sandboxes(types.SandboxFilter(label=label))
    assert [found.name for found in listed] == names


async def test_a_fork_has_preferences_of_its_own(served: Served) -> None:
    await labelled(served, "one", team="red")
    request = types.SandboxCreate(name="two", source="one", labels={"team": "blue"}, keep_hot=True)
    made = await served.service.create(request, lambda stage: None)
    assert (made.labels, made.keep_hot) == ({"team": "blue"}, True)
