"""What a sandbox is to have, as `create` and `template create` are told: the options, and the request of them."""

from typing import Any

import click

from bhatti.cli.session import F, environment, idle_options, idle_seconds, labels, shape_options
from bhatti.errors import InvalidRequest
from bhatti.operations import types

VOLUME_HELP = "Mount a volume (`bhatti volume create`); `:ro` so that others may read it too; repeatable."
SECRET_HELP = "Give it a secret (`bhatti secret set`), as that variable, or as a file of mode 0600; repeatable."

secret_option = click.option("--secret", "secrets", multiple=True, metavar="NAME[:VARIABLE|:/PATH]", help=SECRET_HELP)
file_option = click.option(
    "--file", "files", multiple=True, metavar="HOST:GUEST", help="Put a file in at boot; repeatable."
)


def outfit_options(command: F) -> F:
    """Add the options that `outfit` reads."""
    for option in reversed(
        (
            shape_options,
            file_option,
            click.option("-v", "--volume", "volumes", multiple=True, metavar="NAME:PATH[:ro]", help=VOLUME_HELP),
            secret_option,
            click.option("--init", metavar="SCRIPT", help="Run in session `init` as soon as it has booted."),
            click.option("--user", metavar="NAME", help="Whom commands run as; `lohar` if not given."),
            click.option("--label", "labelled", multiple=True, metavar="KEY=VALUE", help="Mark it; repeatable."),
            click.option("--keep-hot", is_flag=True, default=None, help="Never let it sleep."),
            idle_options,
        )
    ):
        command = option(command)
    return command


def outfit(given: dict[str, Any]) -> dict[str, Any]:
    """Return the values of the options as the fields of a request; raises `InvalidRequest` for what is none."""
    warm, cold = given["warm_after"], given["cold_after"]
    return {
        "image": given["image"],
        "cpus": given["cpus"],
        "memory_mb": given["memory"],
        "disk_size_mb": given["disk"],
        "user": given["user"],
        "env": environment(given["env"]),
        "files": [injection(one) for one in given["files"]],
        "volumes": [_volume(one) for one in given["volumes"]],
        "secrets": wanted_secrets(given["secrets"]),
        "init": given["init"],
        "keep_hot": given["keep_hot"],
        "labels": labels(given["labelled"]),
        "warm_after_s": None if warm is None else idle_seconds("--warm-after", warm),
        "cold_after_s": None if cold is None else idle_seconds("--cold-after", cold),
    }


def wanted_secrets(given: tuple[str, ...]) -> list[str | types.SecretWanted] | None:
    """Return what `--secret` asks for, None if it is not there."""
    wanted = list[str | types.SecretWanted]()
    for one in given:
        name, colon, place = one.partition(":")
        if not name or (colon and not place):
            raise InvalidRequest(
                f"{one!r} is not NAME, NAME:VARIABLE or NAME:/PATH",
                hint="for example --secret GITHUB_TOKEN, or --secret deploy-key:/home/lohar/.ssh/id_ed25519",
                code="bad-secret",
            )
        if place.startswith("/"):
            wanted.append(types.SecretWanted(name=name, file=place))
        else:
            wanted.append(types.SecretWanted(name=name, env=place) if place else name)
    return wanted or None


def injection(given: str) -> types.FileInjection:
    """Return the file that `HOST:GUEST` names; raises `InvalidRequest`."""
    host, colon, guest = given.partition(":")
    if not colon or not guest.startswith("/"):
        raise InvalidRequest(f"{given!r} is not HOST:GUEST", hint="for example --file ~/.netrc:/home/lohar/.netrc")
    from pathlib import Path  # listing need not pay for it

    path = Path(host).expanduser()
    try:
        content = path.read_bytes()
        mode = f"{path.stat().st_mode & 0o777:04o}"
    except OSError as err:
        raise InvalidRequest(
            f"{host} cannot be read: {err.strerror}",
            hint="the file before the colon is one of this machine",
            code="bad-file",
        ) from err
    return types.FileInjection(guest_path=guest, content=content, mode=mode)


def _volume(given: str) -> types.VolumeMount:
    name, _, rest = given.partition(":")
    path, colon, mode = rest.partition(":")
    if not path.startswith("/") or (colon and mode not in ("ro", "rw")):
        raise InvalidRequest(
            f"{given!r} is not NAME:PATH or NAME:PATH:ro",
            hint="for example --volume data:/data; directories of the host cannot be mounted",
            code="bad-volume",
        )
    return types.VolumeMount(name=name, target=path, read_only=mode == "ro")
