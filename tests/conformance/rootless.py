"""A program that runs a sandbox without any rights and prints what it saw as JSON. Run by test_rootless."""

import json
import os
import sys
from pathlib import Path

import anyio
from tests.conformance.conftest import new_spec

from bhatti.engines.qemu.settings import QemuSettings
from bhatti.engines.registry import open_engine
from bhatti.errors import BhattiError
from bhatti.guestlink.client import GuestLink
from bhatti.guestlink.commands import Stdout


async def use(link: GuestLink) -> dict[str, object]:
    seen: dict[str, object] = {}
    seen["hostname"] = (await link.exec(["hostname"])).stdout.decode().strip()
    await link.write_file("/workspace/file", b"content")
    seen["file"] = (await link.read_file("/workspace/file")).decode()
    ping = await link.exec(["ping", "-c", "1", "-W", "5", "10.0.2.2"], timeout_s=20)
    seen["gateway_answers"] = ping.exit_code == 0
    async with link.stream(["python3", "-u", "-m", "http.server", "9000"]) as server:
        async for event in server:
            if isinstance(event, Stdout):
                break
        async with link.forward(9000) as tunnel:
            await tunnel.send(b"GET / HTTP/1.0\r\n\r\n")
            seen["tunnel"] = (await tunnel.receive()).decode()
    try:
        await GuestLink(link._pool._transport, token="wrong").exec(["true"])
    except BhattiError as error:
        seen["stranger"] = "auth required" if "auth required" in error.message else error.message
    return seen


async def main(*arguments: str) -> None:
    engine_name, state_dir, images_dir = arguments
    settings = QemuSettings(state_dir=Path(state_dir), images_dir=Path(images_dir), fork=False)
    spec = new_spec("rootless")
    async with open_engine(engine_name, settings) as engine:
        await engine.create(spec)
        seen: dict[str, object] = {"uid": os.getuid(), "bridge_network": engine.capabilities.bridge_network}
        seen |= await use(engine.link(spec.id))
    async with open_engine(engine_name, settings) as later:
        await later.adopt()
        result = await later.link(spec.id).exec(["hostname"])
        seen["adopted"] = result.stdout.decode().split()
        await later.destroy(spec.id)
    print(json.dumps(seen))


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
