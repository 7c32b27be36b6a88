"""What cannot be a fork, and what is left of one that does not come up. Real forks are in conformance."""

import dataclasses

import msgspec
import pytest
from tests.unit.bhatti.engines.qemu.stub import SPEC, nothing_is_left, opened

from bhatti.engines.qemu import fork
from bhatti.engines.qemu.command import VOLUME_SLOTS
from bhatti.engines.qemu.settings import QemuSettings
from bhatti.errors import Conflict, GuestTimeout, InvalidRequest, NotFound
from bhatti.model.sandbox import GuestFile, SandboxSpec, VolumeAttachment

VOLUME = VolumeAttachment("data", "/data")
MANY = tuple(VolumeAttachment(f"v{number}", f"/v{number}") for number in range(VOLUME_SLOTS + 1))
LARGE = GuestFile("/large", bytes(fork.MAX_FILES_BYTES + 1))


def changed(**changes: object) -> SandboxSpec:
    return msgspec.structs.replace(SPEC, **changes)


def test_an_ordinary_sandbox_can_be_a_fork() -> None:
    assert fork.fork_obstacle(SPEC) is None
    assert fork.fork_obstacle(changed(volumes=MANY[1:])) is None
    fork.check_shape(SPEC, changed(id="s2", name="other", token="other"))


@pytest.mark.parametrize(("change", "word"), [({"volumes": MANY}, "volumes"), ({"files": (LARGE,)}, "KiB")])
def test_what_only_a_boot_can_do_is_an_obstacle(change: dict[str, object], word: str) -> None:
    assert word in str(fork.fork_obstacle(changed(**change)))
    with pytest.raises(InvalidRequest, match=word):
        fork.check_shape(SPEC, changed(**change))


def test_a_fork_of_a_sandbox_has_no_slots_for_volumes() -> None:
    with pytest.raises(InvalidRequest, match="it has volumes") as caught:
        fork.check_shape(SPEC, changed(volumes=(VOLUME,)))
    assert caught.value.code == "cannot-fork"


@pytest.mark.parametrize("change", [{"cpus": 2}, {"memory_mib": 256}, {"disk_mib": 128}, {"image": "x"}])
def test_a_fork_has_the_shape_of_its_source(change: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest, match=next(iter(change))) as caught:
        fork.check_shape(SPEC, changed(**change))
    assert caught.value.code == "shape-differs"


@pytest.mark.anyio
@pytest.mark.usefixtures("qemu", "nobody_waits_for_the_agent")
class TestEngine:
    """Around a guest that has no agent to be told who it is."""

    async def test_a_fork_that_never_takes_its_identity_leaves_nothing_and_its_source_running(
        self, settings: QemuSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fork, "IDENTITY_TIMEOUT_S", 0.3)
        async with opened(settings) as engine:
            made = await engine.create(SPEC)
            with pytest.raises(GuestTimeout) as caught:
                await engine.fork("s1", changed(id="s2"))
            assert caught.value.code == "identity-timeout"
            assert await engine.list() == [made]
            await engine.destroy("s1")
            assert await nothing_is_left(settings)
            assert not any(settings.molds_dir.iterdir())

    async def test_a_source_must_be_there_and_run_and_the_id_be_free(self, settings: QemuSettings) -> None:
        async with opened(settings) as engine:
            with pytest.raises(NotFound):
                await engine.fork("nobody", changed(id="s2"))
            await engine.create(SPEC)
            with pytest.raises(Conflict, match="already"):
                await engine.fork("s1", SPEC)
            await engine.stop("s1")
            with pytest.raises(Conflict) as caught:
                await engine.fork("s1", changed(id="s2"))
            assert caught.value.code == "not-running"
            await engine.destroy("s1")

    async def test_the_first_of_a_shape_boots_and_says_so(self, settings: QemuSettings) -> None:
        async with opened(settings) as engine:
            assert (await engine.create(SPEC)).why == "forks are switched off in the settings"
            await engine.destroy("s1")
        async with opened(dataclasses.replace(settings, fork=True)) as engine:
            made = await engine.create(SPEC)
            assert made.how == "booted"
            assert made.why.startswith("the first of its image and shape")
            await engine.destroy("s1")
        assert await nothing_is_left(settings)
