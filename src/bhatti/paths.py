"""Where bhatti keeps its things. Read by the daemon and by every command, so it imports next to nothing.

As root: `/var/lib/bhatti` and `/run/bhatti`. Otherwise `$XDG_STATE_HOME/bhatti` and `$XDG_RUNTIME_DIR/bhatti`.
`BHATTI_STATE_DIR`, `BHATTI_RUNTIME_DIR` and `BHATTI_IMAGES_DIR` override; a state directory of one's own brings its
runtime directory with it, so that a second daemon never meets the first one's socket.
"""

import os
from collections.abc import Mapping

SOCKET_NAME = "bhatti.sock"
LOG_NAME = "daemon.log"
DATABASE_NAME = "state.db"
LOCK_NAME = "daemon.lock"
CLIENT_CONFIG_NAME = "client.toml"

MAX_SOCKET_PATH_BYTES = 107
"""`sun_path` of unix(7) holds 108 bytes, the closing NUL included."""


def is_root() -> bool:
    """Say whether this process may use the directories of the system."""
    return os.geteuid() == 0


def state_dir(env: Mapping[str, str] = os.environ, *, root: bool | None = None) -> str:
    """Return the directory that outlives restarts: store, images, sandboxes, log."""
    given = env.get("BHATTI_STATE_DIR")
    if given:
        return _absolute(given)
    if is_root() if root is None else root:
        return "/var/lib/bhatti"
    base = env.get("XDG_STATE_HOME") or f"{env.get('HOME', '/')}/.local/state"
    return f"{base}/bhatti"


def runtime_dir(env: Mapping[str, str] = os.environ, *, root: bool | None = None) -> str:
    """Return the directory of the socket. Not a shared `/tmp`: whoever owns the directory owns the daemon's name."""
    given = env.get("BHATTI_RUNTIME_DIR")
    if given:
        return _absolute(given)
    if env.get("BHATTI_STATE_DIR"):
        return f"{state_dir(env)}/run"
    if is_root() if root is None else root:
        return "/run/bhatti"
    base = env.get("XDG_RUNTIME_DIR")
    return f"{base}/bhatti" if base else f"{state_dir(env, root=False)}/run"


def images_dir(env: Mapping[str, str] = os.environ, *, root: bool | None = None) -> str:
    """Return the directory of kernels, images and drives; several daemons may share one."""
    given = env.get("BHATTI_IMAGES_DIR")
    return _absolute(given) if given else f"{state_dir(env, root=root)}/images"


def socket_path(env: Mapping[str, str] = os.environ) -> str:
    """Return where the daemon listens."""
    return f"{runtime_dir(env)}/{SOCKET_NAME}"


def log_path(env: Mapping[str, str] = os.environ) -> str:
    """Return where a daemon that a command started writes its log."""
    return f"{state_dir(env)}/{LOG_NAME}"


def client_config_path(env: Mapping[str, str] = os.environ) -> str:
    """Return where `bhatti setup` writes down which daemon to call, and the key to it."""
    base = env.get("XDG_CONFIG_HOME") or f"{env.get('HOME', '/')}/.config"
    return f"{base}/bhatti/{CLIENT_CONFIG_NAME}"


def _absolute(path: str) -> str:
    return path if path.startswith("/") else f"{os.getcwd()}/{path}"  # noqa: PTH109 - pathlib costs 10 ms of import
