"""Carries steps out with blocking calls."""

import os
import time
from typing import Any, TypeVar

from bhatti.sdk.connection import Connection, Response
from bhatti.sdk.endpoint import Endpoint
from bhatti.sdk.steps import Exchange, Pause, Reply, Step, Steps, replied
from bhatti.sdk.transfer import packed, packed_by_a_stranger, pieces_of
from bhatti.trees.unpacking import unpack

T = TypeVar("T")


class Driver:
    """Connections to one daemon, as many as there are threads that use it at once; each is kept and used again."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._idle: list[Connection] = []

    def run(self, steps: Steps[T]) -> T:
        """Carry `steps` out and return what they return."""
        try:
            step = steps.send(None)
            while True:
                try:
                    outcome = self._carry_out(step)
                except BaseException as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(outcome)
        except StopIteration as end:
            result: T = end.value
            return result

    def close(self) -> None:
        """Close the connections; the next call opens one again."""
        while self._idle:
            self._idle.pop().close()

    def run_first(self, steps: Steps[T]) -> T:
        """Carry out the steps without whose success nobody will have this driver, nor close it."""
        try:
            return self.run(steps)
        except BaseException:
            self.close()
            raise

    def __del__(self) -> None:
        """Who looks a sandbox up for one call need not know that there are connections."""
        self.close()

    def _carry_out(self, step: Step) -> Any:  # noqa: ANN401 - the step decides
        if isinstance(step, Exchange):
            return self._exchange(step)
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        return step.function()

    def _exchange(self, exchange: Exchange) -> Reply:
        connection = self._taken()
        try:
            reply = answered(connection, exchange)
        except BaseException:
            # Interrupted in the middle: leaving is what tells the daemon to end what it was doing for us.
            connection.close()
            raise
        self._idle.append(connection)
        return reply

    def _taken(self) -> Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return Connection(self.endpoint)


def answered(connection: Connection, exchange: Exchange) -> Reply:
    """Send a request and return the answer, over a connection that is closed if that fails."""
    headers = list(exchange.headers)
    if exchange.source is None or exchange.tree:
        whole = exchange.body if exchange.source is None else packed(exchange.source)
        response = connection.request(exchange.method, exchange.target, headers=headers, body=whole)
    else:
        with open(exchange.source, "rb", buffering=0) as file:  # noqa: PTH123 - pathlib costs 10 ms of import
            size = os.fstat(file.fileno()).st_size
            headers.append(("Content-Length", str(size)))
            body = pieces_of(file.fileno(), size)
            response = connection.request(exchange.method, exchange.target, headers=headers, body=body)
    head = response.head
    sunk = exchange.sink is not None and head.status < 400
    if sunk and exchange.tree:
        content = _unpacked(response, exchange.sink or "")
    else:
        content = _saved(response, exchange.sink or "") if sunk else response.read()
    return replied(connection.endpoint, head, content)


def _saved(response: Response, path: str) -> bytes:
    """Write the answer's body to a file, which appears whole or not at all."""
    draft = f"{path}.part-{os.getpid()}"
    file = open(draft, "wb")  # noqa: PTH123, SIM115 - pathlib costs 10 ms of import; closed by the block below
    try:
        with file:
            for piece in response.pieces():
                file.write(piece)
        os.replace(draft, path)  # noqa: PTH105
    except BaseException:
        os.unlink(draft)  # noqa: PTH108
        raise
    return b""


def _unpacked(response: Response, path: str) -> bytes:
    """Unpack the answer's body below a directory."""
    with packed_by_a_stranger():
        unpack(response.pieces(), path)
    return b""
