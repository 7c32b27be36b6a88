"""The one tree of errors, grouped by what the caller can do about them.

    BhattiError
    ├── InvalidRequest      400  exit 2   mend the request
    │   ├── Unauthorized    401  exit 77  give a valid key
    │   └── Forbidden       403  exit 77  have the administrator do it
    ├── NotFound            404  exit 4   name something that exists
    ├── Conflict            409  exit 5   the thing exists, or is in a state that forbids this
    │   └── Busy            409  exit 75  the same call can succeed in a moment
    ├── LimitExceeded       429  exit 6   free something or ask for less
    ├── Unavailable         503  exit 69  the daemon, engine or guest does not answer now
    │   └── GuestTimeout    504  exit 70  the guest did not answer in time
    ├── MissingDependency   503  exit 71  install something on the host
    ├── OutOfSpace          507  exit 74  free disk space
    ├── EngineFailure       500  exit 73  a virtual machine could not do what it was told
    ├── GuestFailure        422  exit 1   the guest agent refused, with its own words
    └── CorruptData         500  exit 65  something stored is not what it was; rebuild or restore it

Every error carries a stable kebab-case `code` that programs may test for, a message that says what, which and what
was seen, and a hint that says what to do next: its own, or the one that is usual for its class. Exit codes follow
sysexits(3) where it has a meaning for them.
"""

from typing import ClassVar

import msgspec


class ErrorBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error as it crosses the API: `{"error": message, "code": code, "hint": hint, "request_id": id}`.

    `kind` is the code of the class, given where `code` names a narrower case: from it the other side knows the class.
    """

    error: str
    code: str
    hint: str | None = None
    request_id: str | None = None
    kind: str | None = None


class BhattiError(Exception):
    """Root of all errors that bhatti raises on purpose.

    `code` may be given to name a narrower case than the class does (`sandbox-not-found` instead of `not-found`).
    """

    code: str = "internal"
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    usual_hint: ClassVar[str | None] = None

    def __init__(self, message: str, *, hint: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if hint is not None:
            self.add_note(f"hint: {hint}")  # which a traceback shows, in programs that use the SDK
        if code is not None:
            self.code = code

    @property
    def advice(self) -> str | None:
        """What to tell whoever has met this error: its hint, or what usually helps with errors of its class."""
        return self.hint or self.usual_hint

    def body(self, request_id: str | None = None) -> ErrorBody:
        """Return the error as the API sends it."""
        kind = type(self).code
        return ErrorBody(
            error=self.message,
            code=self.code,
            hint=self.advice,
            request_id=request_id,
            kind=None if kind == self.code else kind,
        )


class InvalidRequest(BhattiError):
    """What was asked for makes no sense, whoever asks and whenever."""

    code = "invalid-request"
    http_status = 400
    exit_code = 2


class Unauthorized(InvalidRequest):
    """No key, or a key nobody has."""

    code = "unauthorized"
    http_status = 401
    exit_code = 77


class Forbidden(InvalidRequest):
    """The key is right, but this is not for its owner to do."""

    code = "forbidden"
    http_status = 403
    exit_code = 77


class NotFound(BhattiError):
    """The thing named does not exist, or belongs to somebody else."""

    code = "not-found"
    http_status = 404
    exit_code = 4


class Conflict(BhattiError):
    """The thing exists already, or its state forbids the call."""

    code = "conflict"
    http_status = 409
    exit_code = 5


class Busy(Conflict):
    """Another exclusive operation holds the thing; the same call can succeed in a moment."""

    code = "busy"
    exit_code = 75


class LimitExceeded(BhattiError):
    """A cap of the user, the host or the configuration is reached.

    `retry_after_s` is given where waiting so long is all that it takes.
    """

    code = "limit-exceeded"
    http_status = 429
    exit_code = 6

    def __init__(
        self, message: str, *, hint: str | None = None, code: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.retry_after_s = retry_after_s


class Unavailable(BhattiError):
    """Daemon, engine or guest does not answer at the moment."""

    code = "unavailable"
    http_status = 503
    exit_code = 69
    usual_hint = "the same call may succeed in a moment; `bhatti doctor` says how the machine is"


class GuestTimeout(Unavailable):
    """The guest did not answer before the deadline."""

    code = "guest-timeout"
    http_status = 504
    exit_code = 70
    usual_hint = "`bhatti inspect` says how the sandbox is; `bhatti stop --no-memory` and `bhatti start` begin anew"


class MissingDependency(BhattiError):
    """The host lacks a program or a file that this needs; the hint names the package."""

    code = "missing-dependency"
    http_status = 503
    exit_code = 71
    usual_hint = "`bhatti doctor` says what to install"


class OutOfSpace(BhattiError):
    """The disk is full; what was being made has been removed again."""

    code = "out-of-space"
    http_status = 507
    exit_code = 74
    usual_hint = "free some space; `bhatti image prune` removes what no sandbox needs"


class EngineFailure(BhattiError):
    """The engine could not do what it was told; nothing of the attempt is left."""

    code = "engine-failure"
    http_status = 500
    exit_code = 73
    usual_hint = "the same call may succeed again; the daemon's log says more"


class GuestFailure(BhattiError):
    """The guest agent answered with an error; the message holds its words."""

    code = "guest-failure"
    http_status = 422
    exit_code = 1
    usual_hint = "these are the words of the agent in the sandbox; look there for what it means"


class CorruptData(BhattiError):
    """Something stored does not match its checksum, manifest or schema."""

    code = "corrupt-data"
    http_status = 500
    exit_code = 65
    usual_hint = "make it anew, or take it from a backup"


ERRORS_BY_STATUS: dict[int, type[BhattiError]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    422: GuestFailure,
    429: LimitExceeded,
    500: EngineFailure,
    503: Unavailable,
    504: GuestTimeout,
    507: OutOfSpace,
}
"""Which class an answer of that status becomes on the client's side; the body's `code` says the rest."""

CLASSES_BY_CODE: dict[str, type[BhattiError]] = {
    cls.code: cls
    for cls in (
        InvalidRequest,
        Unauthorized,
        Forbidden,
        NotFound,
        Conflict,
        Busy,
        LimitExceeded,
        Unavailable,
        GuestTimeout,
        MissingDependency,
        OutOfSpace,
        EngineFailure,
        GuestFailure,
        CorruptData,
    )
}


MAX_SHOWN = 80


def shortened(text: str) -> str:
    """Return what a caller gave us as it can stand in a message: it may be of any length, the message may not."""
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."


def from_body(status: int, body: ErrorBody) -> BhattiError:
    """Rebuild the error that the daemon raised from its answer.

    `status` is the HTTP status of the answer (100 to 599). Unknown kinds fall back to the class of the status,
    unknown statuses to `BhattiError`.
    """
    cls = CLASSES_BY_CODE.get(body.kind or body.code) or ERRORS_BY_STATUS.get(status, BhattiError)
    return cls(body.error, hint=body.hint, code=body.code)
