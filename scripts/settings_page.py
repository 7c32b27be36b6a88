"""Write docs/settings.md from the settings themselves; with `--check`, only say whether it is as it should be."""

import inspect
import sys
from pathlib import Path

import msgspec.inspect
from msgspec.inspect import BoolType, Field, FloatType, IntType, ListType, LiteralType, StructType

from bhatti.daemon.settings import DIRECTORIES, Settings, variable_of

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"

INTRODUCTION = """\
# Settings

Written by `scripts/settings_page.py` from the settings themselves. What a daemon has, and where each of it comes from,
`bhatti config` shows. The stronger wins, from the weakest on:

1. the default;
2. `/etc/bhatti/config.toml`;
3. `~/.config/bhatti/config.toml`, of the user whose daemon it is (or below `$XDG_CONFIG_HOME`);
4. the environment: `BHATTI_` and the name in capitals, with `_` for the dot; parts of a list have commas between them;
5. `bhatti serve --set NAME=VALUE`.

```toml
engine = "auto"

[defaults]
memory_mb = 1024
```

`bhatti serve --set defaults.memory_mb=1024` and `BHATTI_DEFAULTS_MEMORY_MB=1024` say the same. A daemon reads all that
when it starts, and does not start with a setting that there is not or that makes no sense (`bad-setting`).

## What stands outside of sections

"""

PLACES = {
    "state_dir": "`/var/lib/bhatti`; without root `$XDG_STATE_HOME/bhatti`",
    "runtime_dir": "`/run/bhatti`; without root `$XDG_RUNTIME_DIR/bhatti`",
    "images_dir": "`images` below `state_dir`",
}
"""Defaults that depend on who asks."""


def page() -> str:
    """Return the page."""
    root = msgspec.inspect.type_info(Settings)
    assert isinstance(root, StructType)
    sections = [field for field in root.fields if isinstance(field.type, StructType)]
    parts = [INTRODUCTION, *described(Settings, [field for field in root.fields if field not in sections], "")]
    for section in sections:
        assert isinstance(section.type, StructType)
        parts += [f"\n## `[{section.name}]`\n\n", *described(section.type.cls, section.type.fields, f"{section.name}.")]
    return "".join(parts)


def described(cls: type, fields: list[Field] | tuple[Field, ...], prefix: str) -> list[str]:
    """Return the parts that describe some settings: what is said of them in prose, and a table."""
    rows = [f"| `{prefix}{field.name}` | {values(field, prefix)} | {default(field)} |\n" for field in fields]
    return [f"{inspect.getdoc(cls)}\n\n", "| setting | values | default |\n|---|---|---|\n", *rows]


def values(field: Field, prefix: str) -> str:
    """Return what a setting may be."""
    match field.type:
        case BoolType():
            return "`true`, `false`"
        case LiteralType(values=allowed):
            return ", ".join(f"`{value}`" for value in allowed)
        case ListType():
            return "a list of texts"
        case IntType(ge=least, le=most) | FloatType(gt=None, ge=least, le=most):
            kind = "a number" if isinstance(field.type, FloatType) else "a whole number"
            return f"{kind} from {least} to {most:,}" if most is not None else f"{kind}, {least} or more"
        case FloatType(gt=least, le=most):
            return f"a number above {least}" + (f", {most:,} at most" if most is not None else "")
        case _:
            variable = f"; by `{variable_of(prefix + field.name)}` or a flag alone" if field.name in DIRECTORIES else ""
            return f"text{variable}"


def default(field: Field) -> str:
    """Return what a setting is if nobody sets it, in TOML."""
    if field.name in PLACES:
        return PLACES[field.name]
    value = field.default_factory() if callable(field.default_factory) else field.default
    if value in ("", []):
        return "-"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def main(arguments: list[str]) -> int:
    """Write or check the page; return 1 if it was found stale."""
    wanted = page()
    if arguments == ["--check"]:
        if PAGE.exists() and PAGE.read_text() == wanted:
            return 0
        print("docs/settings.md is stale: run `python scripts/settings_page.py`")
        return 1
    PAGE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
