"""A program that owns an engine: makes one sandbox, says how far it is, waits to be killed. Run by test_adoption.

It halts at the stage that it is told, if any, so that its killer need not be quick.
"""

import os
import signal
import sys
from pathlib import Path

import anyio
import msgspec
from tests.conformance.engines import name_of, settings_for

from bhatti.engines.registry import open_engine
from bhatti.model.sandbox import SandboxSpec


async def own(*arguments: str) -> None:
    kind, state_dir, images_dir, docker, spec, halt_at = arguments
    settings = settings_for(kind, Path(state_dir), Path(images_dir), Path(docker))

    def say(stage: str) -> None:
        print(stage, flush=True)
        if stage == halt_at:
            os.kill(os.getpid(), signal.SIGSTOP)

    async with open_engine(name_of(kind), settings) as engine:
        wanted = msgspec.json.decode(spec, type=SandboxSpec)
        machine = await engine.create(wanted, progress=say)
        print(msgspec.json.encode(machine).decode(), flush=True)
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(own, *sys.argv[1:])
