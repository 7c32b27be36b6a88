"""The base image: a small Debian with what an agent expects, as a read-only ext4 file.

mmdebstrap installs it from the host's own Debian sources; `base.sh` finishes it from the outside.
"""

import os
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from bhatti.errors import MissingDependency
from bhatti.images.ext4 import make_ext4
from bhatti.images.programs import find_program, run_program

PACKAGES = (
    "bash", "ca-certificates", "curl", "fd-find", "git", "iproute2", "iputils-ping", "jq", "less", "locales", "procps",
    "python3", "python3-pip", "python3-venv", "ripgrep", "sudo", "vim-tiny",
)  # fmt: skip
"""On top of Debian's minimal base. `locales` is removed again by `base.sh`, once it has made the one that is needed."""

_WITHOUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/lintian/*")
_WITH = ("/usr/share/doc/*/copyright", "/usr/share/locale/locale.alias")

_STEPS = 11
"""Lines that mmdebstrap writes while it works (`I: …`); only the progress bar depends on it."""


def build_base(
    path: Path,
    work: Path,
    suite: str,
    sources: list[str],
    *,
    held_lock: int | None = None,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, str]:
    """Create the image at `path` and return the versions of the packages in it.

    `work` is an empty directory, for some 400 MB; `sources` are lines of sources.list(5). Takes about a minute. Raises
    `MissingDependency` (a program, or root), `OutOfSpace`, `EngineFailure`.
    """
    if os.geteuid() != 0:
        raise MissingDependency(
            "the base image can only be built as root: its files belong to several users",
            hint="run `sudo bhatti image build`, or point BHATTI_IMAGES_DIR at images that root has built",
            code="needs-root",
        )
    root = work / "root"
    work.chmod(0o755)  # apt's unprivileged user has to pass through
    steps = 0

    def step(line: str) -> None:
        nonlocal steps
        if line.startswith("I: ") and steps < _STEPS:
            steps += 1
            on_step(steps, _STEPS + 1)

    with resources.as_file(resources.files("bhatti.images") / "base.sh") as script:
        run_program(
            [
                "mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory",
                f"--include={','.join(PACKAGES)}",
                *(f"--dpkgopt=path-exclude={pattern}" for pattern in _WITHOUT),
                *(f"--dpkgopt=path-include={pattern}" for pattern in _WITH),
                f'--customize-hook=sh {script} "$1"',
                suite, root, *sources,
            ],
            held_lock=held_lock,
            contained=True,
            env={"TMPDIR": str(work), "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"},
            on_line=step,
        )  # fmt: skip
    versions = installed_versions(root / "var/lib/dpkg/status")
    make_tree_image(path, root, label="bhatti-base", held_lock=held_lock)
    on_step(_STEPS + 1, _STEPS + 1)
    return versions


def make_tree_image(path: Path, root: Path, *, label: str, held_lock: int | None = None) -> None:
    """Create a read-only ext4 image at `path` with the contents of the directory `root`, just large enough."""
    blocks = inodes = 0
    for directory, names, files in os.walk(root):
        inodes += len(names) + len(files)
        blocks += sum(1 + (Path(directory, name).lstat().st_size + 4095) // 4096 for name in files) + len(names)
    make_ext4(
        path,
        # A sixteenth and 16 MiB for tables; the file is sparse, what is not used is not stored.
        (blocks + blocks // 16 + inodes // 8 + 4096) * 4096,
        label=label,
        source=root,
        options=(
            "-b", "4096", "-I", "256", "-N", str(inodes + inodes // 16 + 64),
            "-O", "none,extent,ext_attr,filetype,dir_index,sparse_super,large_file,huge_file,flex_bg,extra_isize",
            "-E", "root_owner=0:0",
        ),
        held_lock=held_lock,
    )  # fmt: skip


def installed_versions(status: Path) -> dict[str, str]:
    """Return name and version of each installed package of dpkg's `status` file."""
    versions = {}
    for paragraph in status.read_text(encoding="utf-8").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Status") == "install ok installed":
            versions[fields["Package"]] = fields["Version"]
    return versions


def host_suite(os_release: str) -> str:
    """Return the Debian suite of this host (`bookworm`) from the text of os-release(5); raises `MissingDependency`."""
    fields = dict(line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    suite = fields.get("VERSION_CODENAME", "").strip('"')
    if fields.get("ID", "").strip('"') != "debian" or not suite:
        raise MissingDependency(
            "images are built from Debian's packages, and this host is not Debian 12 or newer",
            hint="build them on a Debian host and copy its images directory here",
            code="not-debian",
        )
    find_program("mmdebstrap")
    return suite
