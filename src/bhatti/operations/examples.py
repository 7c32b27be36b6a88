"""One example of each operation, as documents show it. `tests/docs/test_api_page.py` runs every one of them.

An operation without an entry gets an example that is made up from its types, so that no document has a gap.
"""

import datetime
from typing import Any

import msgspec

from bhatti.model.sandbox import Status, Temperature, VolumeStatus
from bhatti.model.task import TaskStatus
from bhatti.operations import types
from bhatti.operations.operation import Operation

MOMENT = datetime.datetime(2026, 1, 15, 9, 30, tzinfo=datetime.UTC)

PARAMETERS = {"id": "agent-1", "name": "base", "port": "8000", "rest": "index.html", "user": "anna"}
"""What the parameters of paths are in all examples; others are called by their own name."""


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """A call and its answer. `request` is the JSON body, `body` the bytes where the body is no JSON."""

    parameters: dict[str, str] = {}
    query: dict[str, Any] = {}
    request: Any = None
    body: bytes | None = None
    answer: Any = None


def of(operation: Operation[Any, Any]) -> Example:
    """Return the example of an operation; every parameter of its path has a value."""
    given = EXAMPLES.get(operation.name) or _made_up(operation)
    names = [part[1:-1].partition(":")[0] for part in operation.path.split("/") if part.startswith("{")]
    values = {name: given.parameters.get(name) or PARAMETERS.get(name, name) for name in names}
    return msgspec.structs.replace(given, parameters=values)


def _made_up(operation: Operation[Any, Any]) -> Example:
    """Return an example with what is required and nothing else."""
    query = _required(operation.query) if operation.query is not None else {}
    request = _required(operation.request) if operation.request is not None else None
    return Example(query=query, request=request)


def _required(body: Any) -> dict[str, Any]:  # noqa: ANN401  # any type of the table
    (schema,), components = msgspec.json.schema_components([body])
    found = _sample(schema, components)
    assert isinstance(found, dict)
    return found


def _sample(schema: dict[str, Any], components: dict[str, Any]) -> object:
    """Return the simplest value that `schema` allows, of what our types can say."""
    if (reference := schema.get("$ref")) is not None:
        return _sample(components[reference.rpartition("/")[2]], components)
    if (choices := schema.get("anyOf")) is not None:
        return _sample(choices[0], components)
    if (values := schema.get("enum")) is not None:
        return values[0]
    match schema.get("type"):
        case "object":
            properties = schema.get("properties", {})
            return {name: _sample(properties[name], components) for name in schema.get("required", ())}
        case "array":
            return [_sample(schema["items"], components)] * schema.get("minItems", 0)
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case _:
            return "example"


SANDBOX = types.Sandbox(
    id="3f9a1c7e5b20",
    name="agent-1",
    status=Status.RUNNING,
    thermal=Temperature.HOT,
    image="base",
    cpus=1,
    memory_mb=1024,
    disk_size_mb=8192,
    created_at=MOMENT,
    engine="qemu",
    engine_id="3f9a1c7e5b20",
    ip="10.64.0.2",
    accelerator="kvm",
    how="forked",
    timings_ms={"agent": 61.0},
    engine_meta={"pid": "4711"},
)
HALTED = msgspec.structs.replace(
    SANDBOX, thermal=Temperature.WARM, thermal_reason="cold in 30 min (paused: on request)"
)
ASLEEP = msgspec.structs.replace(
    SANDBOX, status=Status.STOPPED, thermal=Temperature.COLD, ip=None, engine_meta={}, stopped_at=MOMENT
)
IMAGE = types.Image(
    name="base",
    digest="sha256:9b1d2c5fd0c3f7a1",
    size_bytes=713_031_680,
    stored_bytes=412_352_512,
    created_at=MOMENT,
    kernel="6.1.0-49-cloud-amd64",
    source="debian:bookworm",
)
FORKED = msgspec.structs.replace(SANDBOX, id="b7e20d4c9a13", engine_id="b7e20d4c9a13", name="agent-2", ip="10.64.0.3")
CHECKPOINT = types.Checkpoint(name="before-tests", created_at=MOMENT, size_bytes=94_371_840)
USER = types.User(
    id="usr_5c1e9a40",
    name="anna",
    created_at=MOMENT,
    max_sandboxes=10,
    max_cpus=8,
    max_memory_mb=8192,
    max_volume_storage_mb=20_480,
    max_images=10,
    max_snapshots=5,
    max_published=10,
)
KEY = "bht_" + "0" * 43
PUBLISHED = types.Publication(
    id="pub_7d21c0fe",
    sandbox_id="3f9a1c7e5b20",
    sandbox="agent-1",
    port=8000,
    alias="agent-1",
    url="https://agent-1.apps.example.com/",
    created_at=MOMENT,
)
PORT = types.ListeningPort(container_port=8000, proxy_url="/sandboxes/3f9a1c7e5b20/proxy/8000/", addresses=["0.0.0.0"])

VOLUME = types.Volume(name="data", size_mb=1024, created_at=MOMENT, status=VolumeStatus.READY, used_mb=0)

TASK = types.Task(
    id="task_5f0c2b9a7d31",
    kind="image-pull",
    subject="alpine:3.19",
    status=TaskStatus.RUNNING,
    begun_at=MOMENT,
    stage="layer 1",
    done=1_048_576,
    total=3_407_872,
)
SECRET = types.Secret(name="GITHUB_TOKEN", created_at=MOMENT, updated_at=MOMENT)
TEMPLATE = types.Template(id="5d0c83e1a97f42b6", name="agent", created_at=MOMENT, cpus=1, env={"LANG": "C.UTF-8"})

EXAMPLES: dict[str, Example] = {
    "health": Example(answer=types.Health(status="ok", sandboxes=1, uptime=86_400.0)),
    "version": Example(
        answer=types.Version(
            version="0.1.0", api="1", engine="qemu", python="3.11.2", pid=311, can={"pause": True, "fork": True}
        )
    ),
    "doctor": Example(
        answer=types.DoctorReport(ok=True, checks=[types.Check(name="kvm", status="ok", detail="/dev/kvm runs guests")])
    ),
    "sandbox.create": Example(request=types.SandboxCreate(name="agent-1", cpus=1, memory_mb=1024), answer=SANDBOX),
    "sandbox.list": Example(answer=[SANDBOX]),
    "sandbox.get": Example(answer=SANDBOX),
    "sandbox.edit": Example(
        request=types.SandboxEdit(labels_add={"team": "red"}),
        answer=msgspec.structs.replace(SANDBOX, labels={"team": "red"}),
    ),
    "sandbox.pause": Example(answer=HALTED),
    "sandbox.resume": Example(answer=SANDBOX),
    "sandbox.stop": Example(answer=ASLEEP),
    "sandbox.start": Example(answer=SANDBOX),
    "sandbox.destroy": Example(answer=types.Outcome(status="destroyed")),
    "sandbox.fork": Example(request=types.SandboxFork(name="agent-2"), answer=FORKED),
    "checkpoint.create": Example(request=types.CheckpointCreate(name="before-tests"), answer=CHECKPOINT),
    "checkpoint.list": Example(answer=[CHECKPOINT]),
    "checkpoint.restore": Example(parameters={"name": "before-tests"}, answer=SANDBOX),
    "checkpoint.remove": Example(parameters={"name": "before-tests"}, answer=types.Outcome(status="deleted")),
    "snapshot.verify": Example(
        answer=types.SnapshotReport(usable=True, detail="taken 3 min ago", size_bytes=94_371_840)
    ),
    "event.list": Example(
        query={"sandbox": "agent-1", "limit": 10},
        answer=[
            types.LoggedEvent(
                id=17, at=MOMENT, kind="created", sandbox_id="3f9a1c7e5b20", sandbox="agent-1", detail="forked"
            )
        ],
    ),
    "metrics": Example(),
    "backup": Example(),
    "openapi": Example(),
    "docs": Example(),
    "exec": Example(
        request=types.ExecRequest(cmd=["sh", "-c", "echo $((6 * 7))"], timeout_sec=10.0),
        answer=types.ExecResult(exit_code=0, stdout="42\n"),
    ),
    "exec.socket": Example(request=types.ExecRequest(cmd=["echo", "hello"])),
    "terminal": Example(query={"rows": 24, "cols": 80, "cmd": "sh"}),
    "session.list": Example(
        answer=[
            types.Session(
                session_id="s1",
                argv="bash -li",
                tty=True,
                running=True,
                attached=False,
                created_at=1_768_469_400,
                offset=5120,
                start=0,
            )
        ]
    ),
    "session.kill": Example(parameters={"session": "s1"}, answer=types.Outcome(status="killed")),
    "file.write": Example(query={"path": "/workspace/notes.txt", "mode": "0600"}, body=b"one\ntwo\nthree\n"),
    "file.read": Example(query={"path": "/workspace/notes.txt", "offset": 2, "limit": 1}),
    "file.stat": Example(query={"path": "/workspace/notes.txt"}),
    "port.list": Example(answer=[PORT]),
    "port.list-all": Example(
        answer=[types.SandboxPort(sandbox_id=SANDBOX.id, sandbox=SANDBOX.name, **msgspec.structs.asdict(PORT))]
    ),
    "forward": Example(parameters={"port": "5432"}),
    "file.mkdir": Example(request=types.DirectoryMake(path="/workspace/results"), answer=types.Outcome(status="ok")),
    "file.copy": Example(
        request=types.FileMove(source="/workspace/notes.txt", target="/workspace/results/notes.txt"),
        answer=types.Outcome(status="ok"),
    ),
    "file.move": Example(
        request=types.FileMove(source="/workspace/results/notes.txt", target="/workspace/results/old.txt"),
        answer=types.Outcome(status="ok"),
    ),
    "file.watch": Example(query={"path": "/workspace", "timeout_sec": 1.0}),
    "file.pack": Example(query={"path": "/workspace"}),
    "file.unpack": Example(query={"path": "/workspace/empty"}, body=b"", answer=types.Outcome(status="ok")),
    "file.remove": Example(
        query={"path": "/workspace/results", "recursive": True}, answer=types.Outcome(status="deleted")
    ),
    "proxy": Example(),
    "publish": Example(request=types.PublishRequest(port=8000), answer=PUBLISHED),
    "publish.list": Example(answer=[PUBLISHED]),
    "publish.list-all": Example(answer=[PUBLISHED]),
    "unpublish": Example(),
    "image.list": Example(answer=[IMAGE]),
    "image.get": Example(parameters={"name": "base"}, answer=IMAGE),
    "image.build": Example(request=types.ImageBuild(name="base"), answer=IMAGE),
    "image.import": Example(
        request=types.ImageImport(source="docker-archive:/srv/alpine.tar:alpine:3.19", name="alpine"),
        answer=msgspec.structs.replace(IMAGE, name="alpine", source="docker-archive:/srv/alpine.tar"),
    ),
    "image.pull": Example(
        request=types.ImagePull(reference="alpine:3.19"),
        answer=msgspec.structs.replace(IMAGE, name="alpine-3.19", source="docker.io/library/alpine:3.19"),
    ),
    "image.prune": Example(answer=types.ImagesPruned(freed_bytes=734_003_200)),
    "task.start": Example(request=types.TaskStart(pull=types.ImagePull(reference="alpine:3.19")), answer=TASK),
    "task.list": Example(answer=[TASK]),
    "task.get": Example(parameters={"task": TASK.id}, answer=TASK),
    "task.wait": Example(parameters={"task": TASK.id}, answer=TASK),
    "task.cancel": Example(parameters={"task": TASK.id}, answer=msgspec.structs.replace(TASK, cancelling=True)),
    "image.remove": Example(parameters={"name": "alpine-3.19"}, answer=types.Outcome(status="deleted")),
    "volume.create": Example(request=types.VolumeCreate(name="data", size_mb=1024), answer=VOLUME),
    "volume.list": Example(answer=[VOLUME]),
    "volume.get": Example(parameters={"name": "data"}, answer=VOLUME),
    "volume.resize": Example(
        parameters={"name": "data"},
        request=types.VolumeResize(size_mb=2048),
        answer=msgspec.structs.replace(VOLUME, size_mb=2048),
    ),
    "volume.clone": Example(
        parameters={"name": "data"},
        request=types.VolumeClone(name="data-before"),
        answer=msgspec.structs.replace(VOLUME, name="data-before", size_mb=2048),
    ),
    "volume.remove": Example(parameters={"name": "data-before"}, answer=types.Outcome(status="deleted")),
    "secret.set": Example(request=types.SecretSet(name="GITHUB_TOKEN", value="ghp_example"), answer=SECRET),
    "secret.list": Example(answer=[SECRET]),
    "secret.get": Example(parameters={"name": "GITHUB_TOKEN"}, answer=SECRET),
    "secret.rotate-key": Example(answer=types.KeyRotation(secrets=1)),
    "secret.remove": Example(parameters={"name": "GITHUB_TOKEN"}, answer=types.Outcome(status="deleted")),
    "template.create": Example(
        request=types.TemplateSet(name="agent", cpus=1, env={"LANG": "C.UTF-8"}),
        answer=TEMPLATE,
    ),
    "template.list": Example(answer=[TEMPLATE]),
    "template.get": Example(parameters={"template": "agent"}, answer=TEMPLATE),
    "template.replace": Example(
        parameters={"template": "agent"},
        request=types.TemplateSet(name="agent", cpus=1, memory_mb=1024),
        answer=msgspec.structs.replace(TEMPLATE, env={}, memory_mb=1024),
    ),
    "template.remove": Example(parameters={"template": "agent"}, answer=types.Outcome(status="deleted")),
    "me": Example(answer=types.Me(name="admin", admin=True)),
    "user.create": Example(
        request=types.UserCreate(name="anna", max_sandboxes=10), answer=types.UserKey(user=USER, api_key=KEY)
    ),
    "user.list": Example(answer=[USER]),
    "user.get": Example(answer=USER),
    "user.update": Example(request=types.UserUpdate(max_cpus=16), answer=msgspec.structs.replace(USER, max_cpus=16)),
    "user.rotate": Example(answer=types.UserKey(user=USER, api_key=KEY)),
    "user.remove": Example(answer=types.Outcome(status="deleted")),
}
