"""Debian packages, downloaded and unpacked but never installed.

The host's own apt configuration says where from; indexes and archives are kept in a directory of the build, so that
this needs no root, takes none of apt's locks and leaves nothing behind.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from bhatti.errors import BhattiError, EngineFailure
from bhatti.images.programs import run_program


@dataclass(frozen=True, slots=True)
class Package:
    """A package as apt would install it now; `depends` holds bare names, of alternatives the first."""

    name: str
    version: str
    depends: tuple[str, ...]


class Apt:
    """One build's view of the host's package sources."""

    def __init__(self, directory: Path, *, held_lock: int | None = None, retries: int = 3) -> None:
        self._held_lock = held_lock
        self._directory = directory
        self._updated = False
        self._update_failure: BhattiError | None = None
        (directory / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        (directory / "archives" / "partial").mkdir(parents=True, exist_ok=True)
        self._options = [
            f"-oDir::State::Lists={directory}/lists",
            f"-oDir::Cache={directory}",
            "-oDir::Cache::pkgcache=pkgcache.bin",  # container hosts switch this off, and every call takes a second
            "-oDir::Cache::srcpkgcache=srcpkgcache.bin",
            "-oAPT::Sandbox::User=",  # the unprivileged user of apt cannot write to our directory
            "-oDebug::NoLocking=1",  # the images directory has its own lock
            "-oAcquire::Languages=none",
            f"-oAcquire::Retries={retries}",
        ]

    def ensure_updated(self) -> None:
        """Fetch the package indexes, once.

        A failure is kept and raised only if a package is then missing: one dead source among many, which the host may
        well have, is no reason to stop.
        """
        if self._updated:
            return
        self._updated = True
        try:
            self._run("apt-get", "-qq", "update")
        except EngineFailure as failure:
            self._update_failure = failure

    def candidates(self, *names: str) -> list[Package]:
        """Return the packages `names`, each in the version that apt would install; raises `EngineFailure`."""
        try:
            text = self._run("apt-cache", "show", "--no-all-versions", *names)
        except EngineFailure as failure:
            raise self._update_failure or _unknown(list(names)) from failure
        found = {package.name: package for package in map(parse_package, text.strip().split("\n\n"))}
        missing = [name for name in names if name not in found]
        if missing:
            raise self._update_failure or _unknown(missing)
        return [found[name] for name in names]

    def download(self, packages: list[Package], into: Path) -> None:
        """Download `packages` and unpack all of them into the directory `into`."""
        archives = into.with_name(into.name + "-debs")
        archives.mkdir()
        try:
            self._run("apt-get", "-qq", "download", *(f"{p.name}={p.version}" for p in packages), cwd=archives)
        except EngineFailure as failure:
            # Without indexes apt knows what is installed here, but not where that can be downloaded.
            raise self._update_failure or failure from failure
        for archive in sorted(archives.glob("*.deb")):
            self._run("dpkg-deb", "--extract", str(archive), str(into))
            archive.unlink()
        archives.rmdir()

    def debian_sources(self, suite: str) -> list[str]:
        """Return one-line sources (sources.list(5)) of Debian's own archives for `suite`, as the host has them."""
        fields = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(SIGNED_BY)|$(ORIGIN)|$(CREATED_BY)"
        lines = self._run("apt-get", "indextargets", "--format", fields, "Created-By: Packages").splitlines()
        sources = []
        for line in lines:
            uri, release, component, signed_by, origin, _ = line.split("|")
            if origin == "Debian" and re.fullmatch(rf"{re.escape(suite)}(-security|-updates)?", release):
                option = f"[signed-by={signed_by}] " if signed_by.startswith("/") else ""
                sources.append(f"deb {option}{uri} {release} {component}")
        return sorted(set(sources))

    def _run(self, program: str, *arguments: str, cwd: Path | None = None) -> str:
        options = [] if program == "dpkg-deb" else self._options
        return run_program([program, *options, *arguments], cwd=cwd, held_lock=self._held_lock)


def _unknown(names: list[str]) -> EngineFailure:
    return EngineFailure(
        f"not in the apt sources of this host: {', '.join(names)}",
        hint="images are built from Debian 12 or newer; add its sources and run the same again",
        code="package-not-found",
    )


def parse_package(text: str) -> Package:
    """Read a paragraph of `apt-cache show`."""
    fields = dict(re.findall(r"^([A-Za-z-]+): (.*)$", text, flags=re.MULTILINE))
    relations = f"{fields.get('Pre-Depends', '')},{fields.get('Depends', '')}".split(",")
    depends = (item.split("|")[0].split("(")[0].split(":")[0].strip() for item in relations)
    return Package(fields["Package"], fields["Version"], tuple(name for name in depends if name))
