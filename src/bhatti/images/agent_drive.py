"""The agent drive: a Python of its own and lohar, on a read-only file system that every guest mounts.

Nothing on it depends on the guest's root file system: own loader, own C library, own standard library. All modules are
compiled, without sources, so that importing looks for no caches and never writes.

    /lib/ld.so  /lib/*.so.*          loader and libraries
    /bin/python3                     the interpreter
    /lib/python3.X/                  standard library, and in it the package lohar
    /run                             the command line that starts the agent, one word a line
"""

import hashlib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from bhatti.errors import CorruptData
from bhatti.images.ext4 import make_reproducible_ext4
from bhatti.images.programs import run_program

MOUNT_POINT = "/run/bhatti/agent"

LIBRARIES = ("libc.so.6", "libm.so.6", "libz.so.1", "libexpat.so.1", "libffi.so.8")
"""What Debian's python3.X-minimal and the extension modules below are linked with."""

EXTENSIONS = ("_contextvars", "_ctypes", "_json", "_lsprof", "_queue", "_typing", "mmap", "resource", "termios")
"""Extension modules that are not compiled into Debian's interpreter: what the agent may import, and needs no library
but those above."""

LEFT_OUT = {
    "asyncio", "concurrent", "curses", "dbm", "distutils", "email", "html", "http", "idlelib", "lib2to3",
    "multiprocessing", "pydoc_data", "site-packages", "sqlite3", "test", "tkinter", "tomllib", "turtledemo", "unittest",
    "venv", "wsgiref", "xml", "xmlrpc", "zoneinfo", "lib-dynload", "dist-packages", "__pycache__",
}  # fmt: skip
"""Parts of the standard library that a guest agent has no use for: they would be two thirds of the drive."""

FOREIGN_PATHS = (b"/etc/ld.so.preload\0", b"/etc/nsswitch.conf\0")
"""Files of the guest's root by which the loader and the C library would load more libraries: ones that were made for
another C library. In the drive's copies these names are replaced by one that never exists."""

_NOWHERE = b"/run/bhatti/-"


READABLE = "u+rwX,go+rX,go-w"


def lay_out_runtime(packages_root: Path, into: Path, python: str) -> None:
    """Lay the interpreter `python` (such as `python3.11`) out in `into`, from packages unpacked in `packages_root`.

    Raises `CorruptData` when a file that must be in those packages is not there.
    """
    library = into / "lib"
    (into / "bin").mkdir(parents=True)
    (library / python / "lib-dynload").mkdir(parents=True)
    _copy(_find(packages_root, "ld-linux-x86-64.so.2"), library / "ld.so")
    for name in LIBRARIES:
        _copy(_find(packages_root, name), library / name)
    _copy(packages_root / "usr/bin" / python, into / "bin" / "python3")
    stdlib = packages_root / "usr/lib" / python
    for name in EXTENSIONS:
        for extension in stdlib.glob(f"lib-dynload/{name}.cpython-*.so"):
            _copy(extension, library / python / "lib-dynload" / extension.name)
    # Without docstrings and assertions: a third of the memory and reading time of the code that the agent imports.
    unpacked = [*interpreter(into)[:-1], str(packages_root / "usr/bin" / python)]
    compile_tree(unpacked, stdlib, library / python, optimize=2, left_out=sorted(LEFT_OUT))


def pack_runtime(tree: Path, archive: Path) -> None:
    """Put the directory `tree` into one file, which is synced and checked faster than hundreds."""
    fixed = ("--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@1", f"--mode={READABLE}")
    run_program(["tar", "-C", tree, *fixed, "-cf", archive, "."])


def unpack_runtime(archive: Path, into: Path) -> None:
    """Make the directory `into` from what `pack_runtime` packed."""
    into.mkdir()
    run_program(["tar", "-C", into, "-xf", archive])


def compile_tree(python: list[str], source: Path, into: Path, *, optimize: int, left_out: Iterable[str] = ()) -> None:
    """Compile all modules of `source` into sourceless `.pyc` files below `into`.

    `python` is the command line of the interpreter that will run them: only it knows its own byte code. Raises
    `EngineFailure` when a module does not compile.
    """
    with resources.as_file(resources.files("bhatti.images") / "compile_modules.py") as script:
        run_program([*python, "-I", "-S", script, source, into, str(optimize), *left_out])


def interpreter(root: Path) -> list[str]:
    """Return the command line that runs the interpreter of an unpacked runtime on this host."""
    library = str(root / "lib")
    return [str(root / "lib/ld.so"), "--inhibit-cache", "--library-path", library, str(root / "bin/python3")]


def make_agent_drive(path: Path, tree: Path, *, held_lock: int | None = None) -> None:
    """Create the drive's image at `path` from a copy of an unpacked runtime, to which this lohar is added.

    Equal code gives equal bytes: a drive that had to be made again fits the sandboxes that sleep with the first one.
    """
    (python,) = (tree / "lib").glob("python3.*")
    compile_tree(interpreter(tree), lohar_source(), python / "lohar", optimize=0)
    # A module that is not on the drive is found out here, and not by a guest that panics.
    run_program([*interpreter(tree), "-I", "-S", "-B", "-c", _IMPORT_ALL, *lohar_modules()], held_lock=held_lock)
    (tree / "run").write_text("".join(f"{word}\n" for word in start_command()))
    # A daemon's umask is another than a person's.
    run_program(["chmod", "-R", READABLE, tree])
    # Of files only: how long a directory is depends on what else it once held.
    size = sum(4096 + (path.stat().st_size if path.is_file() else 0) for path in tree.rglob("*"))
    make_reproducible_ext4(
        path,
        # A tenth for the file system's own tables; the image is sparse and read-only, so generosity costs nothing.
        (size * 11 // 10 + (4 << 20)) & ~4095,
        label="bhatti-agent",
        source=tree,
        options=("-b", "4096", "-O", "none,extent,filetype,dir_index,sparse_super"),
        held_lock=held_lock,
    )


_IMPORT_ALL = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"


def lohar_modules() -> list[str]:
    """Return the names of all modules of the installed lohar."""
    source = lohar_source()
    paths = (path.relative_to(source.parent).with_suffix("") for path in sorted(source.rglob("*.py")))
    return [".".join(path.parts).removesuffix(".__init__") for path in paths]


def start_command() -> list[str]:
    """Return the command line that starts the agent in a guest, as PID 1.

    The loader is named explicitly so that the guest's own is never used; `-I -S` keep the guest's environment and
    site directories out, `-c` instead of `-m` saves importing runpy.
    """
    return [
        f"{MOUNT_POINT}/lib/ld.so",
        "--inhibit-cache",
        "--library-path",
        f"{MOUNT_POINT}/lib",
        f"{MOUNT_POINT}/bin/python3",
        "-I",
        "-S",
        "-B",
        "-X",
        "utf8",
        "-c",
        "from lohar.__main__ import main; main()",
    ]


def lohar_source() -> Path:
    """Return the directory of the installed package lohar."""
    with resources.as_file(resources.files("lohar")) as path:
        return path


def lohar_digest() -> str:
    """Return the digest of lohar's sources: a new one means that the agent drive must be made again."""
    source = lohar_source()
    digest = hashlib.sha256()
    for path in sorted(source.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(source)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _find(root: Path, name: str) -> Path:
    for path in sorted(root.rglob(name)):
        if path.is_file():
            return path
    raise CorruptData(f"the packages of the agent's Python do not contain {name}")


def _copy(source: Path, target: Path) -> None:
    content = source.read_bytes()
    if target.name in ("ld.so", "libc.so.6"):
        for path in FOREIGN_PATHS:
            content = content.replace(path, _NOWHERE.ljust(len(path), b"\0"))
    target.write_bytes(content)
    target.chmod(0o755)
