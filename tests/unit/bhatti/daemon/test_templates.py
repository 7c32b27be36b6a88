import msgspec
import pytest
from tests.serving import Served
from tests.unit.bhatti.daemon.conftest import create

from bhatti.daemon.templates import MAX_TEMPLATES, applied
from bhatti.errors import BhattiError, InvalidRequest
from bhatti.model.sandbox import NAME_PATTERN
from bhatti.model.user import ADMIN, Caller
from bhatti.operations import types
from bhatti.store.sandboxes import now

pytestmark = pytest.mark.anyio

HER = Caller(owner="usr_00000001", name="her")


def template(**fields: object) -> types.Template:
    return types.Template(id="5d0c", name="agent", created_at=now(), **fields)  # type: ignore[arg-type]


def test_what_the_request_says_wins_and_the_rest_is_the_templates() -> None:
    told = applied(
        types.SandboxCreate(
            name="one",
            cpus=2,
            env={"BOTH": "request"},
            files=[types.FileInjection(guest_path="/both", content=b"request")],
            volumes=[types.VolumeMount(name="mine", target="/v")],
            keep_hot=False,
            labels={"both": "request"},
            secrets=[types.SecretWanted(name="both", env="B")],
        ),
        template(
            image="base",
            cpus=1,
            memory_mb=256,
            env={"BOTH": "template", "ONLY": "template"},
            files=[
                types.FileInjection(guest_path="/both", content=b"template"),
                types.FileInjection(guest_path="/only", content=b"template"),
            ],
            volumes=[types.VolumeMount(name="its", target="/v")],
            init="date",
            keep_hot=True,
            labels={"both": "template", "only": "template"},
            secrets=["only", "both"],
        ),
    )
    assert (told.name, told.image, told.cpus, told.memory_mb, told.init) == ("one", "base", 2, 256, "date")
    assert told.env == {"BOTH": "request", "ONLY": "template"}
    assert {file.guest_path: file.content for file in told.files} == {"/both": b"request", "/only": b"template"}
    assert [mount.name for mount in told.volumes] == ["mine"]
    assert told.keep_hot is False
    assert told.labels == {"both": "request", "only": "template"}
    assert told.secrets == ["only", types.SecretWanted(name="both", env="B")]


def test_volumes_in_the_references_words_are_instead_of_the_templates_too() -> None:
    mount = types.VolumeMount(name="its", target="/v")
    for request in (types.SandboxCreate(persistent_volumes=[mount]), types.SandboxCreate(new_volumes=[mount])):
        assert applied(request, template(volumes=[mount])).volumes == []
    assert applied(types.SandboxCreate(), template(volumes=[mount])).volumes == [mount]


def test_a_template_may_use_the_references_words() -> None:
    found = template(
        userdata="date",
        volumes=[types.VolumeMount(name="its", target="/v")],
        mounts=[
            types.TemplateMount(volume_name="data", target="/data", readonly=True),
            types.TemplateMount(target="/workspace"),
        ],
    )
    told = applied(types.SandboxCreate(name="one"), found)
    assert told.init == "date"
    assert [(one.name, one.target, one.read_only, one.auto_create) for one in told.volumes] == [
        ("its", "/v", False, False),
        ("data", "/data", True, False),
        ("bhatti-one-workspace", "/workspace", False, True),
    ]
    mine = [types.VolumeMount(name="mine", target="/v")]
    told = applied(types.SandboxCreate(init="true", volumes=mine), found)
    assert (told.init, told.volumes) == ("true", mine)
    for request in (types.SandboxCreate(persistent_volumes=mine), types.SandboxCreate(new_volumes=mine)):
        assert applied(request, found).volumes == []


def test_a_template_that_says_nothing_in_the_references_words_leaves_the_defaults() -> None:
    found = template(image="", cpus=0, memory_mb=0, disk_size_mb=0, engine="", userdata="", secrets=[], labels={})
    told = applied(types.SandboxCreate(name="one"), found)
    assert (told.cpus, told.memory_mb, told.disk_size_mb) == (None, None, None)
    assert not told.image


async def test_a_request_may_name_no_template_and_a_template_its_id(served: Served) -> None:
    assert (await create(served, template_id="")).template_id is None
    made = await served.service.templates.create(types.TemplateSet(name="agent", id="mine"), ADMIN)
    assert made.id != "mine"


async def test_a_template_of_another_engine_makes_no_sandbox(served: Served) -> None:
    for engine, ok in ((served.engine.name, True), ("", True), ("docker", False)):
        made = await served.service.templates.create(types.TemplateSet(name=f"t-{engine}", engine=engine), ADMIN)
        assert made.engine == engine
        if ok:
            assert (await create(served, template=made.id)).template_id == made.id
            continue
        with pytest.raises(BhattiError) as caught:
            await create(served, template=made.id)
        assert (caught.value.http_status, caught.value.code) == (409, "other-engine")


async def test_each_sandbox_of_a_template_has_a_volume_of_its_own(served: Served) -> None:
    mounts = [types.TemplateMount(target="/workspace")]
    await served.service.templates.create(types.TemplateSet(name="agent", mounts=mounts), ADMIN)
    for name in ("one", "two"):
        (mounted,) = (await create(served, template="agent", name=name)).volumes
        assert (mounted.name, mounted.mount) == (f"bhatti-{name}-workspace", "/workspace")


def test_a_sandbox_without_a_name_is_called_like_its_template() -> None:
    long = msgspec.structs.replace(template(), name="a" * 63)
    for found in (template(), long):
        name = applied(types.SandboxCreate(), found).name or ""
        assert name.startswith(found.name[:20])
        assert NAME_PATTERN.fullmatch(name)


def test_a_fork_has_no_template() -> None:
    with pytest.raises(InvalidRequest) as caught:
        applied(types.SandboxCreate(source="one"), template())
    assert caught.value.code == "cannot-fork"


async def test_a_sandbox_is_created_with_what_a_template_says(served: Served) -> None:
    templates = served.service.templates
    await served.service.secrets.put(types.SecretSet(name="TOKEN", value="value"), ADMIN)
    request = types.TemplateSet(name="agent", env={"A": "template"}, secrets=["TOKEN"], labels={"of": "agent"})
    made = await templates.create(request, ADMIN)
    for ref in ("agent", made.id):
        sandbox = await create(served, template=ref)
        assert (sandbox.template_id, sandbox.secrets, sandbox.labels) == (made.id, ["TOKEN"], {"of": "agent"})
        assert sandbox.name.startswith("agent-")
        result = await (await served.guest(sandbox.id)).exec(["printenv", "A", "TOKEN"])
        assert result.stdout == b"template\nvalue\n"
    assert (await create(served, template_id=made.id, name="one")).name == "one"


async def test_a_template_is_made_found_replaced_and_removed(served: Served) -> None:
    templates = served.service.templates
    made = await templates.create(types.TemplateSet(name="agent", cpus=1), ADMIN)
    assert await templates.list(ADMIN) == [made]
    assert await templates.get(made.id, ADMIN) == made
    changed = await templates.replace("agent", types.TemplateSet(name="other", memory_mb=256), ADMIN)
    assert (changed.id, changed.name, changed.cpus, changed.memory_mb) == (made.id, "other", None, 256)
    assert await templates.get("other", ADMIN) == changed
    await templates.remove("other", ADMIN)
    assert await templates.list(ADMIN) == []
    with pytest.raises(BhattiError) as caught:
        await create(served, template="other")
    assert (caught.value.http_status, caught.value.code) == (404, "template-not-found")


async def test_a_template_of_somebody_else_is_not_there(served: Served) -> None:
    templates = served.service.templates
    made = await templates.create(types.TemplateSet(name="agent"), HER)
    await templates.create(types.TemplateSet(name="agent", cpus=1), ADMIN)
    assert [found.cpus for found in await templates.list(HER)] == [None]
    for use in (templates.get, templates.remove):
        with pytest.raises(BhattiError) as caught:
            await use(made.id, ADMIN)
        assert caught.value.code == "template-not-found"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"name": "two words"}, "bad-name"),
        ({"name": "a", "env": {"": "x"}}, "bad-environment"),
        ({"name": "a", "labels": {"a=b": "x"}}, "bad-label"),
        ({"name": "a", "secrets": ["db-url"]}, "bad-secret"),
        ({"name": "a", "init": "date", "userdata": "date"}, "invalid-field"),
    ],
)
async def test_what_no_sandbox_can_have_no_template_says(served: Served, fields: dict[str, object], code: str) -> None:
    request = types.TemplateSet(**fields)  # type: ignore[arg-type]
    good = await served.service.templates.create(types.TemplateSet(name="good"), ADMIN)
    for refused in (
        served.service.templates.create(request, ADMIN),
        served.service.templates.replace("good", request, ADMIN),
    ):
        with pytest.raises(InvalidRequest) as caught:
            await refused
        assert caught.value.code == code
    assert await served.service.templates.list(ADMIN) == [good]


async def test_there_is_a_limit_to_how_many_one_has(served: Served) -> None:
    await served.service.templates.create(types.TemplateSet(name="t0"), ADMIN)
    (record,) = await served.journal.templates.of("")
    for number in range(1, MAX_TEMPLATES):
        await served.journal.templates.add(msgspec.structs.replace(record, id=str(number), name=f"t{number}"))
    with pytest.raises(BhattiError) as caught:
        await served.service.templates.create(types.TemplateSet(name="one-more"), ADMIN)
    assert caught.value.code == "too-many-templates"


async def test_a_row_that_cannot_be_read_is_told_of(served: Served) -> None:
    await served.service.templates.create(types.TemplateSet(name="agent"), ADMIN)
    (record,) = await served.journal.templates.of("")
    await served.journal.templates.change(msgspec.structs.replace(record, outfit=b"{"))
    with pytest.raises(BhattiError) as caught:
        await served.service.templates.get("agent", ADMIN)
    assert caught.value.code == "store-corrupt"
