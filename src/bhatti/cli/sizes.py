"""Sizes as people write them: a number of MiB, or one with its unit behind it."""

import re

import click

UNITS = {"": 1, "m": 1, "g": 1 << 10, "t": 1 << 20}
"""What letters after a size mean, in MiB."""


def mib(text: str) -> int | None:
    """Return `512`, `512M`, `10G`, `10GiB` or `1t` in MiB; None if it is no size."""
    match = re.fullmatch(r"([0-9]{1,12})([mgt]?)(?:i?b)?", text.strip().lower())
    return int(match[1]) * UNITS[match[2]] if match else None


class Size(click.ParamType):
    """The type of an option that is a size; its value is in MiB. How large it may be is for the daemon to say."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the MiB; raises click's own error of a wrong value."""
        found = value if isinstance(value, int) else mib(str(value))
        if found is None:
            self.fail(f"{value!r} is not a size: for example 512M, or 2G; a number alone is MiB", param, ctx)
        return found
