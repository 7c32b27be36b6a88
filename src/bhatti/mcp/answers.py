"""What the tools answer, as models from which the protocol's schemas are made, and how much of it."""

import base64
from typing import Literal

from pydantic import BaseModel, Field

from bhatti.operations import types
from bhatti.sdk.results import Result

MAX_CHARACTERS = 30_000
"""Of each text in an answer: about 8,000 tokens, of which a model's context holds some dozens."""


class SandboxInfo(BaseModel):
    """What a sandbox is."""

    id: str
    name: str
    status: str
    image: str
    cpus: int
    memory_mb: int

    @classmethod
    def of(cls, info: types.Sandbox) -> "SandboxInfo":
        """Return what `info` has of interest to an agent."""
        return cls(
            id=info.id,
            name=info.name,
            status=info.status.value,
            image=info.image,
            cpus=info.cpus,
            memory_mb=info.memory_mb,
        )


class RunResult(BaseModel):
    """How a command ended, and what it said."""

    exit_code: int
    reason: str = Field(description="exited, signalled, timeout, killed, oom or host-lost")
    stdout: str
    stderr: str
    note: str | None = Field(None, description="What is missing from the output, and how to see it")

    @classmethod
    def of(cls, result: Result) -> "RunResult":
        """Return a command's result, its output cut to what an agent can read."""
        stdout, stderr = shortened(result.stdout), shortened(result.stderr)
        cut = result.truncated or (stdout, stderr) != (result.stdout, result.stderr)
        note = "Output was left out; send it to a file, and read the part that matters." if cut else None
        return cls(exit_code=result.exit_code, reason=result.reason, stdout=stdout, stderr=stderr, note=note)


class FileContent(BaseModel):
    """What is in a file, or the part of it that was asked for."""

    content: str
    encoding: Literal["utf-8", "base64"]
    size_bytes: int
    note: str | None = Field(None, description="What is missing, and how to see it")

    @classmethod
    def of(cls, data: bytes, offset: int) -> "FileContent":
        """Return a part of `data` from `offset` on: characters if it is text, else bytes."""
        encoding: Literal["utf-8", "base64"] = "utf-8"
        try:
            text = data.decode()
            size, more = len(text), offset + MAX_CHARACTERS
            content = text[offset:more]
        except UnicodeDecodeError:
            encoding = "base64"
            size, more = len(data), offset + MAX_CHARACTERS * 3 // 4
            content = base64.b64encode(data[offset:more]).decode()
        note = f"There is more: go on with offset {more}, up to {size}." if more < size else None
        return cls(content=content, encoding=encoding, size_bytes=len(data), note=note)


class FileInfo(BaseModel):
    """A file in a directory."""

    name: str
    size_bytes: int
    mode: str
    is_dir: bool


class CheckpointInfo(BaseModel):
    """A copy of a sandbox."""

    name: str
    size_bytes: int


class Published(BaseModel):
    """Where a port of a sandbox is for everybody who knows the address."""

    url: str | None
    alias: str
    port: int


def shortened(text: str, limit: int = MAX_CHARACTERS) -> str:
    """Return `text`, or, if it is longer than `limit`, its beginning and its end: errors are mostly at the end."""
    if len(text) <= limit:
        return text
    left_out = len(text) - limit
    return f"{text[: limit // 2]}\n[… {left_out} characters left out …]\n{text[-(limit - limit // 2) :]}"
