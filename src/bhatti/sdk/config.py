"""The file of `bhatti setup`: where a daemon of another machine is, and the key to it."""

import contextlib
import os
import tomllib
from pathlib import Path

import msgspec

from bhatti.errors import InvalidRequest

MODE = 0o600
"""The key is the owner's alone."""


class ClientConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the file says."""

    url: str
    api_key: str = ""


def read(path: str) -> ClientConfig:
    """Return what the file says.

    Raises `InvalidRequest` (code `bad-config`) if it cannot be understood, or if it holds a key that others can read.
    """
    file = Path(path)
    try:
        found = msgspec.convert(tomllib.loads(file.read_text()), ClientConfig)
        mode = file.stat().st_mode & 0o777
    except OSError as err:
        raise _bad(path, f"cannot be read: {err.strerror}", "`bhatti setup` writes it anew") from err
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as err:
        raise _bad(path, f"cannot be understood: {err}", "`bhatti setup` writes it anew") from err
    if found.api_key and mode & 0o077:
        raise _bad(path, f"holds a key and has mode {mode:04o}: others can read it", f"chmod 600 {path}")
    return found


def write(path: str, config: ClientConfig) -> None:
    """Write the file, for its owner alone; it appears whole or not at all. Raises `InvalidRequest` (`bad-config`)."""
    draft = Path(f"{path}.{os.getpid()}")
    try:
        draft.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE), "w") as file:
            # A JSON string is a TOML string: the same quotes, the same escapes.
            for name, value in msgspec.structs.asdict(config).items():
                file.write(f"{name} = {msgspec.json.encode(value).decode()}\n")
        draft.rename(path)
    except OSError as err:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise _bad(path, f"cannot be written: {err.strerror}", "set XDG_CONFIG_HOME to a directory of yours") from err


def _bad(path: str, what: str, hint: str) -> InvalidRequest:
    return InvalidRequest(f"{path} {what}", hint=hint, code="bad-config")
