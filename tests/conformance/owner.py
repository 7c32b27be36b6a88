"""A program that owns an engine: makes one sandbox, says how far it is, waits to be killed. Run by test_adoption."""

import sys
from pathlib import Path

import anyio
import msgspec

from bhatti.engines.qemu.settings import QemuSettings
from bhatti.engines.registry import open_engine
from bhatti.model.sandbox import SandboxSpec


async def own(*arguments: str) -> None:
    engine_name, state_dir, images_dir, spec = arguments
    settings = QemuSettings(state_dir=Path(state_dir), images_dir=Path(images_dir))
    async with open_engine(engine_name, settings) as engine:
        wanted = msgspec.json.decode(spec, type=SandboxSpec)
        machine = await engine.create(wanted, progress=lambda stage: print(stage, flush=True))
        print(msgspec.json.encode(machine).decode(), flush=True)
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(own, *sys.argv[1:])
