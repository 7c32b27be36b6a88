"""What this engine asks of Docker, one method per call of the Engine API, each with a deadline of its own.

Source: Docker Engine API 1.41 (https://docs.docker.com/engine/api/v1.41/). All methods raise what
`bhatti.engines.docker.failures` has, and are safe to cancel as far as this end is concerned: a call that changes
something may have been carried out all the same.
"""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from pathlib import Path
from urllib.parse import quote

import msgspec

from bhatti.engines.docker import api_types as types
from bhatti.engines.docker import failures
from bhatti.engines.docker.connection import DockerConnection
from bhatti.errors import Conflict, EngineFailure, MissingDependency, NotFound

OLDEST = (1, 40)
"""Docker 19.03. Older ones lack what is used here, and security updates for years."""

NEWEST = (1, 47)
"""Docker 27. What is used here has not changed up to it; a newer Docker is spoken to in this version."""

QUICK_S = 15.0
"""A call that looks something up: 1 to 5 ms; behind a container that is being made on a slow disk, seconds."""

CHANGE_S = 60.0
"""A call that makes, starts, or removes: 50 to 500 ms; ten at once on a slow disk, tens of seconds."""

SILENCE_S = 300.0
"""Between two lines of progress: unpacking a large layer on a slow disk reports nothing."""


class DockerApi:
    """The calls. Made by `connect`, ended by `aclose`."""

    def __init__(self, connection: DockerConnection, version: tuple[int, int]) -> None:
        self.version = version
        self._docker = connection
        connection.prefix = f"/v{version[0]}.{version[1]}"

    @classmethod
    async def connect(cls, socket: Path) -> "DockerApi":
        """Agree with the Docker at `socket` on a version.

        Raises `MissingDependency` (codes `docker-missing`, `docker-forbidden`, `docker-too-old`) or `Unavailable`.
        """
        connection = DockerConnection(socket)
        try:
            _, headers, _ = await connection.request("GET", "/_ping", timeout_s=QUICK_S)
            return cls(connection, negotiate(headers.get("Api-Version", "")))
        except BaseException:
            await connection.aclose()
            raise

    @property
    def socket(self) -> Path:
        """Where Docker listens."""
        return self._docker.socket

    @property
    def prefix(self) -> str:
        """The agreed version, as paths begin with it."""
        return self._docker.prefix

    async def aclose(self) -> None:
        """Give up what is open. Idempotent."""
        await self._docker.aclose()

    async def info(self) -> types.DaemonInfo:
        """Return what this Docker is and can do."""
        return await self._docker.ask(types.DaemonInfo, "GET", "/info", timeout_s=QUICK_S)

    # --- images

    async def image(self, name: str) -> types.ImageInfo:
        """Return an image by name, digest or id; raises `NotFound`."""
        return await self._docker.ask(types.ImageInfo, "GET", f"/images/{_path(name)}/json", timeout_s=QUICK_S)

    async def images(self, label: str) -> list[types.ImageSummary]:
        """Return the images with a label, given as `name` or `name=value`."""
        parameters = {"filters": _filters(label=[label])}
        return await self._docker.ask(
            list[types.ImageSummary], "GET", "/images/json", parameters=parameters, timeout_s=QUICK_S
        )

    async def import_image(
        self, archive: AsyncIterator[bytes], *, name: str, tag: str, labels: Mapping[str, str]
    ) -> None:
        """Make an image `name:tag` of one layer from a tar archive. Raises `OutOfSpace`, `EngineFailure`."""
        parameters = {"fromSrc": "-", "repo": name, "tag": tag}
        if labels:
            parameters["changes"] = "\n".join(f"LABEL {key}={value}" for key, value in labels.items())
        await self._follow(parameters, archive, "application/x-tar")

    async def pull_image(self, name: str) -> None:
        """Fetch an image from its registry. Raises `NotFound`, `OutOfSpace`, `EngineFailure`."""
        reference = name if ":" in name.rpartition("/")[2] else f"{name}:latest"
        await self._follow({"fromImage": reference}, None, "application/json")

    async def remove_image(self, identifier: str) -> None:
        """Remove an image with all its tags; raises `Conflict` if a container uses it."""
        await self._change("DELETE", f"/images/{_path(identifier)}", {"force": "false"})

    async def _follow(self, parameters: Mapping[str, str], body: AsyncIterator[bytes] | None, kind: str) -> None:
        """Make an image, and raise the error that may come in the middle of the progress."""
        lines = self._docker.lines(
            types.Progress, "POST", "/images/create", parameters=parameters, body=body, kind=kind, silence_s=SILENCE_S
        )
        async with contextlib.aclosing(lines):
            async for line in lines:
                if line.error:
                    raise _image_failure(line.error)

    # --- containers

    async def create_container(self, name: str, config: types.ContainerConfig) -> str:
        """Make a container that does not run yet, and return its id. Raises `NotFound` (image), `Conflict` (name)."""
        created = await self._docker.ask(
            types.Created,
            "POST",
            "/containers/create",
            parameters={"name": name},
            body=msgspec.json.encode(config),
            timeout_s=CHANGE_S,
        )
        return created.id

    async def start_container(self, container: str) -> None:
        """Start it, or do nothing if it runs."""
        await self._change("POST", f"/containers/{container}/start")

    async def rename_container(self, container: str, name: str) -> None:
        """Give it another name; raises `Conflict` if that is taken."""
        await self._change("POST", f"/containers/{container}/rename", {"name": name})

    async def stop_container(self, container: str, grace_s: float) -> None:
        """Ask its init to end, kill it after `grace_s`; return when it has ended. Nothing happens if it has already."""
        await self._change("POST", f"/containers/{container}/stop", {"t": str(round(grace_s))}, CHANGE_S + grace_s)

    async def pause_container(self, container: str) -> None:
        """Freeze it; raises `Conflict` if it does not run or is frozen."""
        await self._change("POST", f"/containers/{container}/pause")

    async def unpause_container(self, container: str) -> None:
        """Let it go on; raises `Conflict` if it is not frozen."""
        await self._change("POST", f"/containers/{container}/unpause")

    async def remove_container(self, container: str) -> None:
        """Kill it if it runs, and remove it with its anonymous volumes; nothing happens if there is none."""
        for _ in range(2):
            try:
                await self._change("DELETE", f"/containers/{container}", {"force": "true", "v": "true"})
            except NotFound:
                return
            except Conflict:
                # Somebody else is removing it: once that has come to its end, this finds nothing.
                await self.wait_removed(container)
            else:
                return

    async def wait_stopped(self, container: str) -> None:
        """Wait until it does not run; raises `NotFound`."""
        await self._change("POST", f"/containers/{container}/wait", {"condition": "not-running"})

    async def wait_removed(self, container: str) -> None:
        """Wait until it is removed; at once if there is none."""
        with contextlib.suppress(NotFound):
            await self._change("POST", f"/containers/{container}/wait", {"condition": "removed"})

    async def container(self, container: str) -> types.ContainerInfo:
        """Return a container by id or name; raises `NotFound`."""
        return await self._docker.ask(types.ContainerInfo, "GET", f"/containers/{container}/json", timeout_s=QUICK_S)

    async def containers(self, label: str) -> list[types.ContainerSummary]:
        """Return the containers with a label, those that do not run included."""
        parameters = {"all": "true", "filters": _filters(label=[label])}
        return await self._docker.ask(
            list[types.ContainerSummary], "GET", "/containers/json", parameters=parameters, timeout_s=QUICK_S
        )

    async def logs(self, container: str, lines: int) -> bytes:
        """Return the last `lines` that it wrote, framed as `bhatti.engines.docker.console` reads it."""
        _, _, body = await self._docker.request(
            "GET", f"/containers/{container}/logs", parameters=log_parameters(lines), timeout_s=QUICK_S
        )
        return body

    async def events(self, label: str, since: float) -> AsyncGenerator[types.Event, None]:
        """Yield what happens to containers with a label, from the time `since` (epoch) on; ends with the connection."""
        parameters = {"since": f"{since:.9f}", "filters": _filters(type=["container"], label=[label])}
        lines = self._docker.lines(types.Event, "GET", "/events", parameters=parameters, silence_s=None)
        async with contextlib.aclosing(lines):
            async for event in lines:
                yield event

    # --- networks and volumes

    async def create_network(self, name: str, interface: str, labels: Mapping[str, str]) -> None:
        """Make a bridge network, its bridge called `interface`; raises `Conflict` if there is one of that name."""
        body = {
            "Name": name,
            "Driver": "bridge",
            "CheckDuplicate": True,
            "Options": {"com.docker.network.bridge.name": interface},
            "Labels": dict(labels),
        }
        await self._change("POST", "/networks/create", body=msgspec.json.encode(body))

    async def networks(self, label: str) -> list[types.Network]:
        """Return the networks with a label."""
        parameters = {"filters": _filters(label=[label])}
        return await self._docker.ask(list[types.Network], "GET", "/networks", parameters=parameters, timeout_s=QUICK_S)

    async def remove_network(self, name: str) -> None:
        """Remove a network; raises `Conflict` while containers are in it, `NotFound`."""
        await self._change("DELETE", f"/networks/{name}")

    async def create_volume(self, name: str, labels: Mapping[str, str]) -> None:
        """Make a volume, or do nothing if there is one of that name."""
        await self._change("POST", "/volumes/create", body=msgspec.json.encode({"Name": name, "Labels": dict(labels)}))

    async def volumes(self, label: str) -> list[types.Volume]:
        """Return the volumes with a label."""
        parameters = {"filters": _filters(label=[label])}
        found = await self._docker.ask(types.Volumes, "GET", "/volumes", parameters=parameters, timeout_s=QUICK_S)
        return found.volumes or []

    async def volume(self, name: str) -> types.Volume:
        """Return a volume; raises `NotFound`."""
        return await self._docker.ask(types.Volume, "GET", f"/volumes/{name}", timeout_s=QUICK_S)

    async def remove_volume(self, name: str) -> None:
        """Remove a volume and what is in it; raises `Conflict` while a container has it, `NotFound`."""
        await self._change("DELETE", f"/volumes/{name}")

    async def _change(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str] | None = None,
        timeout_s: float = CHANGE_S,
        body: bytes | None = None,
    ) -> None:
        await self._docker.request(method, path, parameters=parameters, body=body, timeout_s=timeout_s)


def negotiate(newest_of_docker: str) -> tuple[int, int]:
    """Return the version to speak with a Docker whose newest is `newest_of_docker` (`1.41`).

    Raises `MissingDependency` (code `docker-too-old`), and `EngineFailure` when it is not a Docker's version at all.
    """
    major, dot, minor = newest_of_docker.partition(".")
    if not (dot and major.isdigit() and minor.isdigit()):
        raise EngineFailure(
            f"no Docker: it says that its API version is {newest_of_docker[:40]!r}",
            hint="something else listens at this socket; DOCKER_HOST names another one",
            code="docker-incomprehensible",
        )
    theirs = int(major), int(minor)
    if theirs < OLDEST:
        raise MissingDependency(
            f"this Docker speaks version {newest_of_docker} of its API, {OLDEST[0]}.{OLDEST[1]} or newer is needed",
            hint="install Docker 19.03 or newer",
            code="docker-too-old",
        )
    return min(theirs, NEWEST)


def log_parameters(lines: int) -> dict[str, str]:
    """Return the parameters of a request for the last `lines` of a container's output."""
    return {"stdout": "true", "stderr": "true", "tail": str(lines)}


def _filters(**filters: list[str]) -> str:
    return msgspec.json.encode(filters).decode()


def _path(name: str) -> str:
    """Return a name as a part of a path; the slashes of image names stay, as Docker's router wants them."""
    return quote(name, safe="/:@")


def _image_failure(words: str) -> Exception:
    """Return the error for what Docker says after the answer has begun with status 200."""
    absent = ("not found", "manifest unknown", "does not exist", "repository name not known")
    return failures.refused("POST /images/create", 404 if any(text in words for text in absent) else 500, words)
