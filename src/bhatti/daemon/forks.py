"""Sandboxes made from others: what such a sandbox is to be, and its making while nothing else happens to its source.

A fork is created like any other sandbox (row and intent first, undone if it fails), so that a daemon killed in the
middle leaves nothing of it. Its source is held meanwhile: a second order about it is refused as `busy`, unless that is
another fork, which waits.
"""

import secrets
from collections.abc import Iterable

from bhatti.daemon.admission import check_environment, new_name
from bhatti.daemon.exclusive import Claims, exclusive
from bhatti.daemon.secret_uses import without
from bhatti.engines.base import Engine, Machine
from bhatti.errors import InvalidRequest
from bhatti.model.origin import SecretUse
from bhatti.model.sandbox import GuestFile, SandboxSpec, checked_name
from bhatti.operations import types
from bhatti.server.backend import StageCallback
from bhatti.store.sandboxes import Record

FIXED = {"image": "image", "cpus": "cpus", "memory_mb": "memory_mib", "disk_size_mb": "disk_mib", "user": "user"}
"""What a fork has of its source and cannot have otherwise: in the words of a request, and of a specification."""

OTHERS = frozenset({"fork"})
"""Orders about its source that a fork waits for: they leave it as it is."""


class Forks:
    """Makes sandboxes from others, one at a time per source."""

    def __init__(self, claims: Claims) -> None:
        self.claims = claims

    @exclusive(per="sandbox", busy="reject", after=OTHERS)
    async def fork(
        self, source: Record, engine: Engine, spec: SandboxSpec, checkpoint: str | None, on_stage: StageCallback
    ) -> Machine:
        """Make the machine; raises like `Engine.fork`, and `Busy`."""
        return await engine.fork(source.id, spec, checkpoint=checkpoint, progress=on_stage)


def fork_spec(
    source: SandboxSpec, request: types.SandboxFork, owner: str = "", uses: Iterable[SecretUse] = ()
) -> SandboxSpec:
    """Return what a fork of `source` is to be for `owner`, with fresh id and token.

    Variables are added to those of the source that `uses` do not take the place of. Its start-up
    script is the source's, which has run, unless another one is asked for.
    Raises `InvalidRequest` (code `bad-name` or `bad-environment`).
    """
    check_environment(request.env)
    return SandboxSpec(
        id=secrets.token_hex(8),
        name=new_name() if request.name is None else checked_name(request.name),
        image=source.image,
        cpus=source.cpus,
        memory_mib=source.memory_mib,
        disk_mib=source.disk_mib,
        token=secrets.token_hex(16),
        user=source.user,
        env=without(source.env, uses) | request.env,
        files=tuple(GuestFile(path=f.guest_path, content=f.content, mode=f.mode) for f in request.files),
        init=request.init or source.init,
        owner=owner,
    )


def fork_of(request: types.SandboxCreate, source: SandboxSpec) -> types.SandboxFork:
    """Return the fork that a creation with `from` asks for.

    Raises `InvalidRequest` (code `shape-differs` or `cannot-fork`) if it asks for anything that its source is not.
    """
    for asked, known in FIXED.items():
        wanted, there = getattr(request, asked), getattr(source, known)
        if wanted is not None and wanted != there:
            raise InvalidRequest(
                f"a fork of sandbox {source.name!r} has its {asked}, {there}, not {wanted}",
                hint=f"leave {asked} out, or create a sandbox that is no fork",
                code="shape-differs",
            )
    if request.volumes or request.persistent_volumes or request.new_volumes:
        raise InvalidRequest("a fork cannot have volumes", hint="create a sandbox that is no fork", code="cannot-fork")
    return types.SandboxFork(
        name=request.name,
        env=request.env,
        files=request.files,
        init=request.init,
        keep_hot=request.keep_hot,
        labels=request.labels,
        warm_after_s=request.warm_after_s,
        cold_after_s=request.cold_after_s,
        secrets=request.secrets,
    )
