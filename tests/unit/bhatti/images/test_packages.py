from pathlib import Path

import pytest

from bhatti.errors import EngineFailure
from bhatti.images.packages import Apt, Package, parse_package

SHOWN = """\
Package: linux-image-cloud-amd64
Version: 6.1.1-1
Pre-Depends: first
Depends: linux-image-6.1.0-1-cloud-amd64 (= 6.1.1-1), libc6:any (>= 2), one | other
Description: text
 with a continuation: that is no field
"""


def test_a_package_is_read_from_what_apt_shows() -> None:
    assert parse_package(SHOWN) == Package(
        "linux-image-cloud-amd64", "6.1.1-1", ("first", "linux-image-6.1.0-1-cloud-amd64", "libc6", "one")
    )


def test_a_package_may_depend_on_nothing() -> None:
    assert parse_package("Package: a\nVersion: 1\n").depends == ()


@pytest.fixture(scope="module")
def apt(tmp_path_factory: pytest.TempPathFactory) -> Apt:
    """Package indexes, fetched once for this file: from the network, as the host is configured."""
    apt = Apt(tmp_path_factory.mktemp("apt"))
    apt.ensure_updated()
    apt.ensure_updated()
    return apt


@pytest.mark.timeout(300)
def test_a_package_is_found_downloaded_and_unpacked_without_being_installed(apt: Apt, tmp_path: Path) -> None:
    busybox, python = apt.candidates("busybox-static", "python3-minimal")
    assert busybox.version
    assert any(name.startswith("python3.") for name in python.depends)
    into = tmp_path / "unpacked"
    apt.download([busybox], into)
    assert (into / "bin/busybox").stat().st_size > 1_000_000
    assert [path.name for path in tmp_path.iterdir()] == ["unpacked"], "no archive is left"


@pytest.mark.timeout(300)
def test_an_unknown_package_is_named(apt: Apt) -> None:
    for names in (("busybox-static", "no-such-package-anywhere"), ("no-such-package-anywhere",)):
        with pytest.raises(EngineFailure) as caught:
            apt.candidates(*names)
        assert caught.value.code == "package-not-found"
        assert "no-such-package-anywhere" in caught.value.message
        assert "busybox" not in caught.value.message


@pytest.mark.timeout(300)
def test_debians_sources_of_a_suite_are_told_as_lines(apt: Apt) -> None:
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    suite = release["VERSION_CODENAME"]
    sources = apt.debian_sources(suite)
    assert any(line.startswith("deb ") and f" {suite} main" in line for line in sources)
    assert apt.debian_sources("no-such-suite") == []


def test_without_a_network_the_cause_is_told_and_not_the_missing_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "apt.conf"
    # Nobody listens on port 9 (discard): every source of this host is behind a proxy that is down.
    config.write_text(
        """
        Acquire::http::Proxy "http://127.0.0.1:9"; Acquire::https::Proxy "http://127.0.0.1:9";
        APT::Update::Error-Mode "any";
        """
    )
    monkeypatch.setenv("APT_CONFIG", str(config))
    apt = Apt(tmp_path / "apt", retries=0)
    apt.ensure_updated()
    with pytest.raises(EngineFailure) as missing:
        apt.candidates("linux-image-cloud-amd64")
    with pytest.raises(EngineFailure) as not_downloaded:
        apt.download([Package("dpkg", "1.0", ())], tmp_path / "unpacked")
    for caught in (missing, not_downloaded):
        assert caught.value.code == "download-failed"
        assert "network" in (caught.value.hint or "")
