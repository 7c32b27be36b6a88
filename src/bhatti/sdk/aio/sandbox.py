"""`AsyncSandbox`: a Linux machine of one's own, for code that runs in an event loop.

The same as `sdk.sync.sandbox`, awaited: a test compares the two. What each method does is in `sdk.flows`.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

from bhatti.operations import types
from bhatti.sdk import flows
from bhatti.sdk.aio.driver import Driver
from bhatti.sdk.aio.finishing import finished
from bhatti.sdk.aio.parts import Files, Ports, Sessions
from bhatti.sdk.aio.streams import Command
from bhatti.sdk.endpoint import find
from bhatti.sdk.facts import SandboxFacts
from bhatti.sdk.flows import Checkpoints, Env, Flows, exec_request, injected
from bhatti.sdk.results import HttpAnswer, Result, Spawned
from bhatti.sdk.talks import Collector, CommandTalk, pieces


class AsyncSandbox(SandboxFacts):
    """A sandbox. Made by `create`, found by `connect` or `list`; may be used by several tasks at once.

    As a block, a sandbox that `create` or `fork` made is destroyed at the end, however that comes:

    >>> async with await AsyncSandbox.create() as sandbox:
    ...     (await sandbox.run("echo $((6 * 7))")).stdout
    '42\\n'

    Its methods are those of `Sandbox`, where each has an example; what waits there is awaited here. Errors, and what is
    asked again, are the same. All may be cancelled: a cancelled `run` ends its command with all it has started, a
    cancelled `create` or `fork` leaves nothing, and what else the daemon had begun it may have done.
    """

    def __init__(self, driver: Driver, info: types.Sandbox, *, owned: bool) -> None:
        self._driver = driver
        self._flows = Flows(info)
        self._owned = owned
        self.files = Files(driver, self._flows)
        self.sessions = Sessions(driver, self._flows)
        self.ports = Ports(driver, self._flows)

    @classmethod
    async def create(
        cls,
        name: str | None = None,
        *,
        image: str | None = None,
        cpus: int | None = None,
        memory_mb: int | None = None,
        disk_size_mb: int | None = None,
        user: str | None = None,
        env: Env | None = None,
        files: Mapping[str, bytes | str] | None = None,
        volumes: Sequence[types.VolumeMount] = (),
        init: str | None = None,
        keep_hot: bool | None = None,
        labels: Env | None = None,
        secrets: Sequence[str | types.SecretWanted] | None = None,
        template: str | None = None,
        url: str | None = None,
        api_key: str | None = None,
    ) -> Self:
        """Make a sandbox and wait until it answers.

        `memory_mb` and `disk_size_mb` are MiB; `env` is there for every command; `files` maps absolute paths to what is
        to be there before the first one; `init` is run once at the beginning; one that is `keep_hot` never
        falls asleep by itself. `secrets` are names of what `bhatti secret set` keeps, each there as the
        variable of its name, or as `types.SecretWanted` says; `template` names what to take from there that is
        not said here. `url` is where the daemon is and `api_key` what it knows you by; both are by default what
        the command line would use: BHATTI_URL and BHATTI_API_KEY, the file of `bhatti setup`, this user's
        daemon. Raises `Conflict` if the name is taken, `NotFound` if there is no such image. When cancelled,
        what has been made is removed again.
        """
        driver = Driver(find(url=url, key=api_key))
        request = types.SandboxCreate(
            name=name,
            image=image,
            cpus=cpus,
            memory_mb=memory_mb,
            disk_size_mb=disk_size_mb,
            user=user,
            env=dict(env or {}),
            files=injected(files),
            volumes=[*volumes],
            init=init,
            keep_hot=keep_hot,
            labels=dict(labels or {}),
            secrets=None if secrets is None else [*secrets],
            template=template,
        )
        return cls(driver, await driver.run_first(flows.create(request)), owned=True)

    @classmethod
    async def connect(cls, name: str, *, url: str | None = None, api_key: str | None = None) -> Self:
        """Return the sandbox with this name, id, or unique beginning of an id; raises `NotFound`."""
        driver = Driver(find(url=url, key=api_key))
        return cls(driver, await driver.run_first(flows.connect(name)), owned=False)

    @classmethod
    async def list(cls, *, url: str | None = None, api_key: str | None = None) -> "Sandboxes[Self]":
        """Return all sandboxes, the newest first."""
        endpoint = find(url=url, key=api_key)
        driver = Driver(endpoint)
        try:
            return [cls(Driver(endpoint), info, owned=False) for info in await driver.run(flows.list_all())]
        finally:
            driver.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._owned:
                await finished(self.destroy())  # also when the block was cancelled
        finally:
            await self.close()

    async def inspect(self) -> types.Sandbox:
        """Return how it is now: status, temperature, address, cause of death."""
        return await self._driver.run(self._flows.inspect())

    async def stop(self, *, memory: bool | None = None) -> types.Sandbox:
        """Put it to sleep: its memory goes to the disk, its process ends. The next call into it wakes it."""
        return await self._driver.run(self._flows.stop(memory))

    async def start(self, *, memory: bool = False) -> types.Sandbox:
        """Wake it, every process where it was; or boot it, if that cannot be: `how` and `why` of the answer say it.

        With `memory` that case is a `Conflict` (code `memory-lost`), and it stays as it is.
        """
        return await self._driver.run(self._flows.start(memory))

    async def pause(self) -> types.Sandbox:
        """Halt it, its memory and connections kept. The next call into it lets it run on."""
        return await self._driver.run(self._flows.pause())

    async def resume(self) -> types.Sandbox:
        """Let it run on."""
        return await self._driver.run(self._flows.resume())

    async def edit(
        self,
        *,
        name: str | None = None,
        keep_hot: bool | None = None,
        labels_add: Env | None = None,
        labels_remove: Sequence[str] = (),
    ) -> types.Sandbox:
        """Change its name, its labels, or whether it may fall asleep; what is left out stays."""
        labels = dict(labels_add or {})
        request = types.SandboxEdit(name=name, keep_hot=keep_hot, labels_add=labels, labels_remove=[*labels_remove])
        return await self._driver.run(self._flows.edit(request))

    async def fork(
        self,
        name: str | None = None,
        *,
        checkpoint: str | None = None,
        env: Env | None = None,
        files: Mapping[str, bytes | str] | None = None,
        init: str | None = None,
        secrets: Sequence[str | types.SecretWanted] | None = None,
    ) -> Self:
        """Make a sandbox that goes on from where this one is, or was at `checkpoint`, as somebody of its own."""
        request = types.SandboxFork(
            name=name,
            checkpoint=checkpoint,
            env=dict(env or {}),
            files=injected(files),
            init=init,
            secrets=None if secrets is None else [*secrets],
        )
        return type(self)(Driver(self._driver.endpoint), await self._driver.run(self._flows.fork(request)), owned=True)

    async def checkpoint(self, name: str) -> types.Checkpoint:
        """Keep a copy of it as it is now, memory and disk: to go back to with `restore`, or to `fork` from."""
        return await self._driver.run(self._flows.checkpoint(name))

    async def checkpoints(self) -> Checkpoints:
        """Return its checkpoints, the oldest first."""
        return await self._driver.run(self._flows.checkpoints())

    async def restore(self, name: str) -> types.Sandbox:
        """Put it back to what it was at a checkpoint; what came after is lost."""
        return await self._driver.run(self._flows.restore(name))

    async def remove_checkpoint(self, name: str) -> None:
        """Remove a checkpoint; forks that were made of it go on."""
        await self._driver.run(self._flows.remove_checkpoint(name))

    async def destroy(self) -> None:
        """End it and remove all it had. One that is gone already is no error."""
        await self._driver.run(self._flows.destroy())
        await self.close()

    async def close(self) -> None:
        """Close the connections to the daemon; the sandbox goes on. Another call opens one again."""
        self._driver.close()

    async def run(
        self,
        command: str | Sequence[str],
        *,
        timeout: float | None = None,
        env: Env | None = None,
        cwd: str | None = None,
        user: str | None = None,
        stdin: bytes | str | Iterable[bytes] | None = None,
        check: bool = False,
        max_output_bytes: int = types.DEFAULT_OUTPUT_BYTES,
    ) -> Result:
        """Run a command to its end and return its output. A text is run by `sh -c`, a list as it is.

        After `timeout` seconds it is ended with all it has started, and what it said so far is returned. With `check`,
        `CommandFailed` is raised unless it succeeds. Of each stream `max_output_bytes` are kept (64 MiB at most, but
        for a command with input). Cancelling this call ends the command with all it has started.

        >>> result = await sb.run("echo out; echo err >&2; exit 3")
        >>> result.exit_code, result.stdout, result.stderr
        (3, 'out\\n', 'err\\n')
        >>> import asyncio
        >>> try:
        ...     await asyncio.wait_for(sb.run("sleep 60"), 0.1)
        ... except TimeoutError:
        ...     print("ended")
        ended
        """
        if stdin is None:
            request = exec_request(
                command, timeout=timeout, env=env, cwd=cwd, user=user, max_output_bytes=max_output_bytes
            )
            result = await self._driver.run(self._flows.run(command, request))
        else:
            talk = CommandTalk(self.id, exec_request(command, timeout=timeout, env=env, cwd=cwd, user=user))
            collector = Collector(max_output_bytes)
            async for output in Command(self._driver.endpoint, talk, pieces(stdin, interactive=False)):
                collector.take(output)
            result = collector.result(command, talk)
        return result.check() if check else result

    def stream(
        self,
        command: str | Sequence[str],
        *,
        timeout: float | None = None,
        env: Env | None = None,
        cwd: str | None = None,
        user: str | None = None,
        stdin: bytes | str | Iterable[bytes] | None = None,
        interactive: bool = False,
    ) -> Command:
        """Run a command and iterate over its output as it comes.

        Input is `stdin`, or, if `interactive`, what `write` gives it. Leaving the block ends the command; so does
        leaving the loop over a command without a block, and cancelling the task that waits for output. An iterable
        `stdin` is asked in the event loop: what waits for something belongs into `write`.

        >>> async for output in sb.stream("echo one; echo two >&2"):
        ...     print(output.stream, output.text.strip())
        stdout one
        stderr two
        >>> async with sb.stream("cat", interactive=True) as cat:
        ...     await cat.write("to and fro")
        ...     print((await anext(cat)).text)
        to and fro
        """
        request = exec_request(command, timeout=timeout, env=env, cwd=cwd, user=user)
        return Command(self._driver.endpoint, CommandTalk(self.id, request), pieces(stdin, interactive))

    async def spawn(
        self,
        command: str | Sequence[str],
        *,
        env: Env | None = None,
        cwd: str | None = None,
        user: str | None = None,
    ) -> Spawned:
        """Start a command that goes on by itself, its output in a file of the sandbox."""
        request = exec_request(command, env=env, cwd=cwd, user=user, detach=True)
        return await self._driver.run(self._flows.spawn(request))

    async def request(
        self,
        port: int,
        path: str = "/",
        *,
        method: str = "GET",
        headers: Env | None = None,
        body: bytes | None = None,
    ) -> HttpAnswer:
        """Send an HTTP request to a web server in the sandbox. Raises if nothing listens on that port."""
        return await self._driver.run(self._flows.request(method, port, path, headers or {}, body))

    async def publish(self, port: int, *, alias: str | None = None) -> types.Publication:
        """Publish a port, for everybody who knows the `url`: requests wake the sandbox."""
        return await self._driver.run(self._flows.publish(port, alias))

    async def unpublish(self, port: int) -> None:
        """Publish a port no more; whoever is served over it is cut off."""
        await self._driver.run(self._flows.unpublish(port))


Sandboxes = list
"""The built-in, under a name that no method of the class takes away."""
