"""Everybody's templates, and what they make of a request that names one."""

import builtins
import secrets
from collections.abc import Callable
from typing import Any

import msgspec

from bhatti.daemon.admission import check_environment
from bhatti.daemon.secret_uses import checked
from bhatti.errors import Conflict, CorruptData, InvalidRequest, LimitExceeded, NotFound, shortened
from bhatti.model.preferences import relabelled
from bhatti.model.references import by_beginning
from bhatti.model.sandbox import checked_name
from bhatti.model.user import Caller
from bhatti.operations import types
from bhatti.server.templates import TemplateBackend
from bhatti.store.sandboxes import now
from bhatti.store.template_journal import TemplateJournal
from bhatti.store.templates import TemplateRecord

MAX_TEMPLATES = 256
"""Of one user."""

SIZES = ("cpus", "memory_mb", "disk_size_mb")
"""What no sandbox has none of: 0 stands for what the daemon gives anyway."""


class Templates(TemplateBackend):
    """The templates of one daemon. `journal` returns the store's part, or refuses while the daemon is not ready."""

    def __init__(self, journal: Callable[[], TemplateJournal]) -> None:
        self._journal = journal

    async def create(self, request: types.TemplateSet, caller: Caller) -> types.Template:
        """See `TemplateBackend`."""
        _check(request)
        journal = self._journal()
        if (count := len(await journal.of(caller.owner))) >= MAX_TEMPLATES:
            raise LimitExceeded(f"there are {count} templates", hint="remove some", code="too-many-templates")
        record = TemplateRecord(
            id=secrets.token_hex(8),
            owner=caller.owner,
            name=request.name,
            outfit=msgspec.json.encode(request),
            created_at=now(),
        )
        await journal.add(record)
        return _answer(record)

    async def list(self, caller: Caller) -> builtins.list[types.Template]:
        """See `TemplateBackend`."""
        return [_answer(record) for record in await self._journal().of(caller.owner)]

    async def get(self, ref: str, caller: Caller) -> types.Template:
        """See `TemplateBackend`."""
        return _answer(await self._find(ref, caller.owner))

    async def replace(self, ref: str, request: types.TemplateSet, caller: Caller) -> types.Template:
        """See `TemplateBackend`."""
        _check(request)
        before = await self._find(ref, caller.owner)
        record = msgspec.structs.replace(before, name=request.name, outfit=msgspec.json.encode(request))
        await self._journal().change(record)
        return _answer(record)

    async def remove(self, ref: str, caller: Caller) -> None:
        """See `TemplateBackend`."""
        await self._journal().remove(await self._find(ref, caller.owner))

    async def filled(
        self, request: types.SandboxCreate, caller: Caller, engine: str
    ) -> tuple[types.SandboxCreate, str | None]:
        """Return the request with what the template that it names adds, and that template's id.

        Raises `NotFound` (code `template-not-found`), `Conflict` (code `other-engine`) if it is not for the `engine` of
        that name, and like `applied`.
        """
        if not (ref := request.template or request.template_id):
            return request, None
        template = await self.get(ref, caller)
        if template.engine not in (None, "", engine):
            raise Conflict(
                f"the template {template.name!r} is for the engine {template.engine!r}, this daemon's is {engine!r}",
                hint="change the template, or use one without an engine",
                code="other-engine",
            )
        return applied(request, template), template.id

    async def _find(self, ref: str, owner: str) -> TemplateRecord:
        records = await self._journal().of(owner)
        for record in (*(r for r in records if r.name == ref), *(r for r in records if r.id == ref)):
            return record
        if (meant := by_beginning(ref, (record.id for record in records))) is not None:
            return next(record for record in records if record.id == meant)
        shown = shortened(ref)
        raise NotFound(
            f"there is no template {shown!r}", hint="`bhatti template ls` shows them", code="template-not-found"
        )


def applied(request: types.SandboxCreate, template: types.Template) -> types.SandboxCreate:
    """Return the request with what `template` adds. What the request says itself wins.

    Variables and labels are merged by name, files by path, secrets by secret; volumes of the request are instead of
    the template's. Raises `InvalidRequest` (code `cannot-fork`) for a fork.
    """
    if request.source is not None:
        raise InvalidRequest(
            "a fork is what its source is, not what a template says", hint="leave one of them out", code="cannot-fork"
        )
    changes: dict[str, Any] = {
        name: getattr(template, name) or None if name in SIZES else getattr(template, name)
        for name in types.Outfit.__struct_fields__
        if getattr(request, name) in (None, [], {})
    }
    changes["env"] = template.env | request.env
    changes["labels"] = template.labels | request.labels
    paths = {file.guest_path for file in request.files}
    changes["files"] = [*(file for file in template.files if file.guest_path not in paths), *request.files]
    changes["init"] = request.init or template.init or template.userdata
    names = {_name(one) for one in request.secrets or []}
    changes["secrets"] = [*(one for one in template.secrets or [] if _name(one) not in names), *(request.secrets or [])]
    # Of what a name can have, so that the template's can be as long as any.
    name = changes["name"] = request.name or f"{template.name[:56]}-{secrets.token_hex(3)}"
    if request.volumes or request.persistent_volumes or request.new_volumes:
        changes["volumes"] = request.volumes
    else:
        changes["volumes"] = [*template.volumes, *(_volume(mount, name) for mount in template.mounts)]
    return msgspec.structs.replace(request, **changes)


def _volume(mount: types.TemplateMount, sandbox: str) -> types.VolumeMount:
    return types.VolumeMount(
        name=mount.volume_name or f"bhatti-{sandbox}-workspace",
        target=mount.target,
        read_only=mount.readonly,
        auto_create=mount.auto_create or not mount.volume_name,
    )


def _name(wanted: str | types.SecretWanted) -> str:
    return wanted if isinstance(wanted, str) else wanted.name


def _check(request: types.TemplateSet) -> None:
    """Refuse now what no sandbox could have; what depends on the host and the moment is for the creation to say."""
    checked_name(request.name, "a template")
    check_environment(request.env)
    relabelled({}, request.labels)
    checked(request.secrets or [])
    if request.init and request.userdata:
        raise InvalidRequest("init and userdata are two words for one thing", hint="give one", code="invalid-field")


def _answer(record: TemplateRecord) -> types.Template:
    try:
        outfit = msgspec.json.decode(record.outfit, type=types.TemplateSet)
    except msgspec.MsgspecError as err:
        raise CorruptData(
            f"the template {record.name!r} cannot be read: {err}", hint="make it anew", code="store-corrupt"
        ) from err
    fields: dict[str, Any] = {name: getattr(outfit, name) for name in types.TemplateSet.__struct_fields__}
    return types.Template(**fields | {"name": record.name, "id": record.id, "created_at": record.created_at})
