"""Sizes as people write them: a number of MiB, or one with its unit behind it."""

import re

import click

UNITS = {"": 1, "m": 1, "g": 1 << 10, "t": 1 << 20}
"""What letters after a size mean, in MiB."""


def mib(text: str) -> int | None:
    """Return `512`, `512M`, `10G`, `10GiB` or `1t` in MiB; None if it is no size."""
    match = re.fullmatch(r"([0-9]{1,12})([mgt]?)(?:i?b)?", text.strip().lower())
    return int(match[1]) * UNITS[match[2]] if match else None


def size(text: str | int) -> int:
    """Return an option's size in MiB, as click wants the type of an option: raises its error of a wrong value.

    How large it may be is for the daemon to say. A default is in MiB already.
    """
    found = text if isinstance(text, int) else mib(text)
    if found is None:
        raise click.BadParameter(f"{text!r} is not a size: for example 512M, or 2G; a number alone is MiB")
    return found
