import os
import re
from pathlib import Path

import pytest

from bhatti.daemon.admission import Host, admit, look_at_host
from bhatti.daemon.settings import Settings, load
from bhatti.errors import InvalidRequest
from bhatti.model.sandbox import GuestFile, SandboxSpec
from bhatti.operations.types import FileInjection, SandboxCreate

HOST = Host(cpus=4, memory_mib=16_000, disk_mib=100_000)


def settings(*flags: str) -> Settings:
    return load(["state_dir=/srv/b", *flags], env={}, files=[])


def spec(request: SandboxCreate, *flags: str, host: Host = HOST) -> SandboxSpec:
    return admit(request, settings(*flags), host)


def test_nothing_asked_for_is_a_default_sandbox() -> None:
    found = spec(SandboxCreate())
    assert re.fullmatch(r"sandbox-[0-9a-f]{6}", found.name)
    assert re.fullmatch(r"[0-9a-f]{16}", found.id)
    assert re.fullmatch(r"[0-9a-f]{32}", found.token)
    assert (found.image, found.cpus, found.memory_mib, found.disk_mib, found.user) == ("base", 1, 512, 8192, "lohar")


def test_a_sandbox_is_on_the_network_of_whoever_asked_for_it() -> None:
    assert admit(SandboxCreate(), settings(), HOST).owner == ""
    assert admit(SandboxCreate(), settings(), HOST, "usr_1").owner == "usr_1"


def test_ids_names_and_tokens_are_never_the_same() -> None:
    found = [spec(SandboxCreate()) for _ in range(50)]
    assert len({s.id for s in found}) == len({s.token for s in found}) == 50


def test_all_that_is_asked_for_is_given() -> None:
    found = spec(
        SandboxCreate(
            name="one",
            image="alpine",
            cpus=4,
            memory_mb=16_000,
            disk_size_mb=100_000,
            user="root",
            env={"A": "b=c"},
            files=[FileInjection(guest_path="/x", content=b"y", mode="0600")],
            init="true",
        )
    )
    assert (found.name, found.image, found.cpus, found.memory_mib, found.disk_mib) == (
        "one",
        "alpine",
        4,
        16_000,
        100_000,
    )
    assert (found.user, found.env, found.init) == ("root", {"A": "b=c"}, "true")
    assert found.files == (GuestFile(path="/x", content=b"y", mode="0600"),)


@pytest.mark.parametrize("name", [None, ""])
def test_who_is_given_no_name_gets_one(name: str | None) -> None:
    assert spec(SandboxCreate(name=name)).name.startswith("sandbox-")


@pytest.mark.parametrize(
    ("request_", "code", "limit"),
    [
        (SandboxCreate(cpus=0), "bad-cpus", "this host has 4"),
        (SandboxCreate(cpus=-1), "bad-cpus", "1 to 4"),
        (SandboxCreate(cpus=5), "bad-cpus", "1 to 4"),
        (SandboxCreate(memory_mb=0), "bad-memory", "16000 MiB"),
        (SandboxCreate(memory_mb=127), "bad-memory", "128 to 16000"),
        (SandboxCreate(memory_mb=10**9), "bad-memory", "128 to 16000"),
        (SandboxCreate(disk_size_mb=0), "bad-disk", "100000 MiB"),
        (SandboxCreate(disk_size_mb=10**12), "bad-disk", "64 to 100000"),
        (SandboxCreate(name="no spaces"), "bad-name", "no spaces"),
        (SandboxCreate(env={"A=B": "c"}), "bad-environment", "A=B"),
        (SandboxCreate(env={"": "c"}), "bad-environment", "''"),
        (SandboxCreate(env={"A": "\0"}), "bad-environment", "'A'"),
    ],
)
def test_what_the_host_cannot_give_is_refused_with_its_limit(request_: SandboxCreate, code: str, limit: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        spec(request_)
    assert caught.value.code == code
    assert limit in caught.value.message


def test_limits_can_be_set_below_what_the_host_has() -> None:
    flags = ("limits.max_cpus=2", "limits.max_memory_mb=1024", "limits.max_disk_size_mb=2048")
    for asked in (SandboxCreate(cpus=3), SandboxCreate(memory_mb=2048), SandboxCreate(disk_size_mb=4096)):
        with pytest.raises(InvalidRequest):
            spec(asked, *flags)


def test_defaults_shrink_to_what_a_small_host_has() -> None:
    found = spec(SandboxCreate(), host=Host(cpus=1, memory_mib=400, disk_mib=1000))
    assert (found.memory_mib, found.disk_mib) == (400, 1000)


def test_the_host_is_measured(tmp_path: Path) -> None:
    host = look_at_host(tmp_path)
    assert host.cpus == os.cpu_count()
    total_kib = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1])  # type: ignore[index]
    assert abs(host.memory_mib - total_kib // 1024) <= 1
    assert host.disk_mib > 0
