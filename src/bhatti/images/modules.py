"""Which kernel modules a guest needs, and in which order they must be loaded.

Debian's package has no modules.dep (depmod makes it at installation), so the dependencies are read from the modules
themselves: the section `.modinfo` of each has a `depends=` entry.
"""

from dataclasses import dataclass
from pathlib import Path

from bhatti.errors import CorruptData

_SIGNED = b"~Module signature appended~\n"
_SHOFF = slice(0x28, 0x30)
_SHENTSIZE = slice(0x3A, 0x3C)
_SHNUM = slice(0x3C, 0x3E)
_SHSTRNDX = slice(0x3E, 0x40)


@dataclass(frozen=True, slots=True)
class Module:
    """A loadable module; names have `_` where file names may have `-`, as everywhere in the kernel."""

    name: str
    path: Path
    depends: tuple[str, ...]


def load_order(wanted: list[str], directory: Path) -> list[Module]:
    """Return the modules `wanted` and all they depend on, each after its dependencies.

    `directory` is `lib/modules/RELEASE`. A wanted module that has no file is left out: it may be built in, and if not
    the boot test says so. A missing dependency raises `CorruptData`.
    """
    files = {_name(path): path for path in sorted((directory / "kernel").rglob("*.ko"))}
    order: dict[str, Module] = {}

    def visit(name: str, chain: tuple[str, ...]) -> None:
        if name in order or name in chain:
            return
        if name not in files:
            raise CorruptData(f"kernel module {name!r}, needed by {chain[-1]!r}, is not in {directory}")
        needed = depends(files[name].read_bytes())
        for dependency in needed:
            visit(dependency, (*chain, name))
        order[name] = Module(name, files[name], needed)

    for name in wanted:
        if name in files:
            visit(name, ())
    return list(order.values())


def _name(path: Path) -> str:
    return path.stem.replace("-", "_")


def without_signature(module: bytes) -> bytes:
    """Return the module without the signature appended to it (Documentation/admin-guide/module-signing.rst).

    Checking one takes the emulated guest 10 ms of RSA, for a file that our own manifest vouches for already. The kernel
    then marks itself tainted (`E`), nothing more: it does not enforce signatures.
    """
    if not module.endswith(_SIGNED):
        return module
    information = len(module) - len(_SIGNED) - 12  # struct module_signature; its last four bytes are the length
    length = int.from_bytes(module[information + 8 : information + 12], "big")
    if length > information:
        raise CorruptData("the module's signature is longer than the module")
    return module[: information - length]


def depends(module: bytes) -> tuple[str, ...]:
    """Return the names of the modules that the ELF file `module` says it depends on; raises `CorruptData`."""
    for entry in modinfo(module):
        if entry.startswith(b"depends="):
            names = entry.removeprefix(b"depends=").decode("ascii", "replace")
            return tuple(name.replace("-", "_") for name in names.split(",") if name)
    return ()


def modinfo(module: bytes) -> list[bytes]:
    """Return the `key=value` entries of the section `.modinfo` (ELF-64, little-endian); raises `CorruptData`."""
    if not module.startswith(b"\x7fELF\x02\x01"):
        raise CorruptData("not a 64-bit little-endian ELF module")
    table, size = _int(module[_SHOFF]), _int(module[_SHENTSIZE])
    headers = [module[table + i * size : table + (i + 1) * size] for i in range(_int(module[_SHNUM]))]
    try:
        names = _section(module, headers[_int(module[_SHSTRNDX])])
        for header in headers:
            start = _int(header[0:4])
            if names[start : names.index(b"\0", start)] == b".modinfo":
                return [entry for entry in _section(module, header).split(b"\0") if entry]
    except (IndexError, ValueError) as error:
        raise CorruptData("the ELF module's section table is damaged") from error
    return []


def _section(module: bytes, header: bytes) -> bytes:
    offset, length = _int(header[0x18:0x20]), _int(header[0x20:0x28])
    return module[offset : offset + length]


def _int(field: bytes) -> int:
    return int.from_bytes(field, "little")
