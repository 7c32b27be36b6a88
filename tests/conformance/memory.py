"""A program in a guest that remembers what it is told in its own memory, and is asked for it over the link."""

import time
from contextlib import AsyncExitStack

import anyio

from bhatti.guestlink.client import GuestLink

PORT = 9400

PROGRAM = f"""
import socket
words = []
server = socket.create_server(("127.0.0.1", {PORT}))
open("/tmp/remembers", "w").close()
while True:
    connection, _ = server.accept()
    word = connection.recv(1000).decode()
    if word != "?":
        words.append(word)
    connection.sendall(" ".join(words).encode())
    connection.close()
"""


async def begin(link: GuestLink) -> int:
    """Start the program; return its pid when it listens."""
    async with link.watch("/tmp") as changes:
        started = await link.detach(["python3", "-c", PROGRAM])
        async for change in changes:
            if any(event.path == "/tmp/remembers" for event in change.events):
                return started.pid
    raise AssertionError("the watch ended")


async def tell(link: GuestLink, word: str) -> str:
    """Give it a word; return all it remembers."""
    async with AsyncExitStack() as stack:
        stream = await stack.enter_async_context(link.forward(PORT))
        await stream.send(word.encode())
        answer = b""
        while True:
            try:
                answer += await stream.receive()
            except anyio.EndOfStream:
                return answer.decode()


async def recall(link: GuestLink) -> str:
    """Return all it remembers."""
    return await tell(link, "?")


async def clock_error_s(link: GuestLink) -> float:
    """Return how far the guest's clock is from ours, beyond what asking took."""
    before = time.time()
    guest = float((await link.exec(["date", "+%s.%N"])).stdout)
    after = time.time()
    return max(0.0, before - guest, guest - after)
