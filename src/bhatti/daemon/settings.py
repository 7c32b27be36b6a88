"""Settings: defaults, then `/etc/bhatti/config.toml`, then the user's own file, then the environment, then flags.

Every setting has one name, `key` or `section.key`. In a file it is TOML; in the environment `BHATTI_KEY` or
`BHATTI_SECTION_KEY`; as a flag of the daemon `--set section.key=value`. Where the daemon's directories are can be said
by environment and flag alone, because every command must find the socket without reading files.
"""

import difflib
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from bhatti import paths
from bhatti.errors import InvalidRequest
from bhatti.model.preferences import IdleSeconds

DIRECTORIES = frozenset({"state_dir", "runtime_dir"})


class Defaults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a sandbox gets when nothing is asked for; sizes in MiB."""

    image: str = "base"
    cpus: Annotated[int, msgspec.Meta(ge=1)] = 1
    memory_mb: Annotated[int, msgspec.Meta(ge=128)] = 512
    disk_size_mb: Annotated[int, msgspec.Meta(ge=64)] = 8192


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one sandbox may have at most; 0 means what the host has.

    All sandboxes that run may have `memory_overcommit` times the host's memory together: idle ones use a small part of
    theirs. With 1, nobody can be promised memory that is not there.
    """

    max_cpus: Annotated[int, msgspec.Meta(ge=0)] = 0
    max_memory_mb: Annotated[int, msgspec.Meta(ge=0)] = 0
    max_disk_size_mb: Annotated[int, msgspec.Meta(ge=0)] = 0
    memory_overcommit: Annotated[float, msgspec.Meta(gt=0, le=100)] = 1.5


class Qemu(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The QEMU engine. An empty text leaves the choice to the engine; `outside` is about user-mode network only,
    `bridge_name` and `subnet` about the bridge of the administrator: users have bridges of their own. `dns` are the
    addresses of the name servers that sandboxes ask.

    With `fork`, sandboxes are made from golden snapshots where that is possible; without it each one boots. Up to
    `ready_pool` forks are made before anybody asks for them.
    """

    binary: str = ""
    network: Literal["auto", "bridge", "user"] = "auto"
    bridge_name: str = ""
    subnet: str = ""
    accelerator: Literal["auto", "kvm", "tcg"] = "auto"
    boot_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    dns: list[str] = []
    outside: bool = True
    fork: bool = True
    ready_pool: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0


Rate = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
"""So many, mostly in a second; 0 is without a limit."""


class Firecracker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The Firecracker engine. What has the name of a setting of QEMU's means the same.

    The limits are of each drive that a sandbox can write, and of its network in each direction; 0 is without a limit.
    With `balloon`, guests give memory back that they have freed; with `vsock`, the daemon reaches agents over that.
    With `metrics`, Firecracker writes its own once a minute to `firecracker.metrics` in the machine's directory.
    `jailer` names its jailer, in whose jail each machine is then; `auto` is the one beside Firecracker or on PATH, if
    there is one that can be used, and empty is none. `jail_*` limit the processes in jails: `cpu_percent` of one
    processor for each that a sandbox has, `memory_spare_mib` beyond its memory, `tasks` beyond its processors; 0 is
    without a limit.
    """

    binary: str = ""
    balloon: bool = False
    vsock: bool = False
    log_level: Literal["off", "error", "warning", "info", "debug", "trace"] = "error"
    metrics: bool = False
    jailer: str = "auto"
    jail_cpu_percent: Rate = 0
    jail_memory_spare_mib: Rate = 0
    jail_tasks: Rate = 0
    disk_mib_per_s: Rate = 0
    disk_ops_per_s: Rate = 0
    net_mib_per_s: Rate = 0
    net_packets_per_s: Rate = 0
    bridge_name: str = ""
    subnet: str = ""
    boot_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    dns: list[str] = []
    fork: bool = True
    ready_pool: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0


class Docker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The Docker engine. An empty text leaves the choice to the engine.

    `socket` is looked for if it is empty: DOCKER_HOST, then Docker's usual place. `runtime` is one that dockerd knows:
    `runsc` for gVisor. `network = "none"` gives sandboxes a loopback and nothing else. `pull` lets images that are not
    there be fetched. Without `no_new_privileges` sudo works inside. `pids_limit` bounds the processes of one sandbox;
    `pool` is how many ready containers wait for whoever creates one.
    """

    socket: str = ""
    runtime: str = ""
    network: Literal["auto", "bridge", "none"] = "auto"
    dns: list[str] = []
    pull: bool = True
    no_new_privileges: bool = True
    pids_limit: Annotated[int, msgspec.Meta(ge=16)] = 4096
    pool: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    boot_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    stop_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 10.0


class Rates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often each user may call: so many at once, and so many a minute; 0 a minute is without a bound.

    Enough for a program that polls ten sandboxes twice a second and works in all of them, not for one that has run
    wild. `create` is what makes something, `enter` what goes into a guest, `look` all the rest.
    """

    create_per_minute: Annotated[float, msgspec.Meta(ge=0)] = 60.0
    create_burst: Annotated[int, msgspec.Meta(ge=1)] = 20
    enter_per_minute: Annotated[float, msgspec.Meta(ge=0)] = 6000.0
    enter_burst: Annotated[int, msgspec.Meta(ge=1)] = 600
    look_per_minute: Annotated[float, msgspec.Meta(ge=0)] = 6000.0
    look_burst: Annotated[int, msgspec.Meta(ge=1)] = 600


class Thermal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When idle sandboxes sleep, in seconds without activity; 0 means never. A sandbox may have times of its own.

    An agent that is silent for `ask_timeout_s` has not answered; after `unanswered_limit` times it is put to sleep.
    """

    warm_after_s: IdleSeconds = 30.0
    cold_after_s: IdleSeconds = 1800.0
    ask_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 5.0
    unanswered_limit: Annotated[int, msgspec.Meta(ge=1)] = 10


class Gateway(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Published ports. They are served on `listen`, a `host:port` of their own; empty for none.

    With a `domain` each is at `ALIAS.domain`, otherwise at `/p/ALIAS/`. `public_url` is how people reach the listener,
    if that is through a proxy, whose `X-Forwarded-*` are believed only with `trust_forwarded`. The limits are for all
    callers together, but `max_waiting`, which is for each sandbox that is being woken.
    """

    listen: str = ""
    domain: str = ""
    public_url: str = ""
    trust_forwarded: bool = False
    max_waiting: Annotated[int, msgspec.Meta(ge=1)] = 1024
    max_open: Annotated[int, msgspec.Meta(ge=1)] = 4096
    max_body_mb: Annotated[int, msgspec.Meta(ge=1)] = 64
    wake_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    idle_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 300.0


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set. `engine` is what runs sandboxes: `qemu`, `firecracker`, `docker`, or `auto`.

    `listen` is a `host:port` for callers with keys, beside the unix socket; empty for none. `user_registries` are the
    registries, such as `docker.io`, from which users may pull images; without any, the administrator alone can. The log
    goes to standard error, for people or for programs (`log_format`).

    When the daemon stops, requests and orders under way have `drain_s` seconds to end. `stop_all` ends all sandboxes
    then; otherwise they go on. `detect_blocking` is for who works on bhatti: what blocks the event loop fails.
    """

    state_dir: str
    runtime_dir: str
    images_dir: str
    engine: str = "qemu"
    listen: str = ""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    stop_all: bool = False
    drain_s: Annotated[float, msgspec.Meta(ge=0)] = 5.0
    detect_blocking: bool = False
    user_registries: list[str] = []
    defaults: Defaults = Defaults()
    limits: Limits = Limits()
    rates: Rates = Rates()
    qemu: Qemu = Qemu()
    firecracker: Firecracker = Firecracker()
    docker: Docker = Docker()
    thermal: Thermal = Thermal()
    gateway: Gateway = Gateway()

    @property
    def socket(self) -> Path:
        """Where the daemon listens."""
        return Path(self.runtime_dir) / paths.SOCKET_NAME

    @property
    def database(self) -> Path:
        """Where the store is."""
        return Path(self.state_dir) / paths.DATABASE_NAME

    @property
    def lock(self) -> Path:
        """What says that a daemon has the state directory."""
        return Path(self.state_dir) / paths.LOCK_NAME


def _fields() -> dict[str, object]:
    """Return every setting's name (`key` or `section.key`) and type."""
    found: dict[str, object] = {}
    for field in msgspec.structs.fields(Settings):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            found |= {f"{field.name}.{inner.name}": inner.type for inner in msgspec.structs.fields(field.type)}
        else:
            found[field.name] = field.type
    return found


FIELDS = _fields()


def config_files(env: Mapping[str, str] = os.environ) -> list[Path]:
    """Return the files that may hold settings, the weaker first."""
    own = env.get("XDG_CONFIG_HOME") or f"{env.get('HOME', '/')}/.config"
    return [Path("/etc/bhatti/config.toml"), Path(own) / "bhatti" / "config.toml"]


def load(
    flags: Iterable[str] = (), *, env: Mapping[str, str] = os.environ, files: Iterable[Path] | None = None
) -> Settings:
    """Return the settings; `flags` are texts `key=value`.

    Raises `InvalidRequest` (code `bad-setting`) that names the file, variable or flag at fault.
    """
    return _settings({key: value for _, key, value in _given(flags, env, files)}, env)


def origins(env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return where each setting that is not the default comes from: a file or a variable. Raises as `load` does."""
    return {key: origin for origin, key, _ in _given((), env, None)}


def _given(
    flags: Iterable[str], env: Mapping[str, str], files: Iterable[Path] | None
) -> Iterator[tuple[str, str, object]]:
    """Yield origin, key and value of all that is set, the weaker first."""
    for path in config_files(env) if files is None else files:
        for key, value in _from_file(path):
            yield str(path), key, _checked(str(path), key, value)
    for key, field_type in FIELDS.items():
        if (variable := variable_of(key)) in env:
            yield variable, key, _checked(variable, key, _from_text(field_type, env[variable]))
    for flag in flags:
        key, equals, text = flag.partition("=")
        if not equals:
            raise _bad("the command line", f"{flag!r} is not key=value")
        yield f"--set {key}", key, _checked(f"--set {key}", key, _from_text(FIELDS.get(key), text))


def variable_of(key: str) -> str:
    """Return the environment variable of a setting."""
    return "BHATTI_" + key.replace(".", "_").upper()


def _settings(found: dict[str, object], env: Mapping[str, str]) -> Settings:
    state = str(Path(str(found.get("state_dir") or paths.state_dir(env))).absolute())
    # A state directory of its own brings the other two with it; see `bhatti.paths`.
    runtime = found.get("runtime_dir") or (f"{state}/run" if "state_dir" in found else paths.runtime_dir(env))
    nested: dict[str, object] = {
        "state_dir": state,
        "runtime_dir": str(Path(str(runtime)).absolute()),
        "images_dir": str(Path(str(found.get("images_dir") or f"{state}/images")).absolute()),
    }
    for key, value in found.items():
        section, _, name = key.rpartition(".")
        if section:
            table = nested.setdefault(section, {})
            assert isinstance(table, dict)
            table[name] = value
        else:
            nested.setdefault(name, value)
    return msgspec.convert(nested, Settings)


def _from_file(path: Path) -> Iterator[tuple[str, object]]:
    try:
        document = tomllib.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as err:
        raise _bad(str(path), str(err)) from err
    for key, value in document.items():
        if key in DIRECTORIES:
            raise _bad(str(path), f"{key} cannot be set in a file", f"set {variable_of(key)} in the environment")
        if isinstance(value, dict):
            yield from ((f"{key}.{name}", inner) for name, inner in value.items())
        else:
            yield key, value


def _from_text(field_type: object, text: str) -> object:
    if field_type == list[str]:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _checked(origin: str, key: str, value: object) -> object:
    if key not in FIELDS:
        near = difflib.get_close_matches(key, FIELDS, 1)
        raise _bad(origin, f"there is no setting {key!r}", f"did you mean {near[0]!r}?" if near else None)
    try:
        return msgspec.convert(value, FIELDS[key], strict=False)
    except msgspec.ValidationError as err:
        raise _bad(origin, f"{key}: {err}") from err


def _bad(origin: str, what: str, hint: str | None = None) -> InvalidRequest:
    return InvalidRequest(f"{origin}: {what}", hint=hint, code="bad-setting")
