"""Secrets with a real store and a real key file: kept, given to sandboxes, re-encrypted, and never lost on the way."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tests.serving import Served, serving
from tests.unit.bhatti.daemon.conftest import create

from bhatti.daemon.secrets import KEY_FILE, MAX_SECRETS
from bhatti.errors import BhattiError, InvalidRequest
from bhatti.model.user import ADMIN, Caller
from bhatti.operations import types
from bhatti.secrets import keyfile
from bhatti.secrets.keys import Keys
from bhatti.store.secret_journal import SecretJournal

pytestmark = pytest.mark.anyio

VALUE = "s3cret-vALUE-of-the-tests"
HER = Caller(owner="usr_00000001", name="her")


async def keep(served: Served, name: str = "TOKEN", value: str = VALUE, caller: Caller = ADMIN) -> types.Secret:
    return await served.service.secrets.put(types.SecretSet(name=name, value=value), caller)


async def printed(served: Served, sandbox: str, variable: str = "TOKEN") -> str:
    link = await served.guest(sandbox)
    return (await link.exec(["printenv", variable])).stdout.decode().strip()


def key_file(served: Served) -> Path:
    return Path(served.settings.state_dir) / KEY_FILE


async def refused(served: Served, **fields: object) -> str:
    with pytest.raises(BhattiError) as caught:
        await create(served, **fields)
    assert VALUE not in f"{caught.value}{caught.value.hint}"
    return caught.value.code


async def test_a_secret_reaches_the_sandboxes_that_ask_for_it(served: Served) -> None:
    await keep(served)
    wanted = ["TOKEN", types.SecretWanted(name="TOKEN", file="/token")]
    made = await create(served, name="one", secrets=wanted)
    await create(served, name="two")
    assert made.secrets == ["TOKEN"]
    assert (await printed(served, "one"), await printed(served, "two")) == (VALUE, "")
    file = Path(served.settings.state_dir) / "m" / made.id / "home" / "token"
    assert (file.read_text(), file.stat().st_mode & 0o777) == (VALUE, 0o600)


async def test_rows_hold_names_and_no_values(served: Served) -> None:
    await keep(served)
    await create(served, name="one", secrets=["TOKEN"], env={"PLAIN": "seen"})
    (row,) = await served.journal.sandboxes()
    assert VALUE.encode() not in msgspec.json.encode(row)
    assert [use.name for use in row.origin.secrets] == ["TOKEN"]
    (secret,) = await served.journal.secrets.of("")
    assert VALUE.encode() not in secret.sealed


async def test_a_change_reaches_what_is_made_after_it(served: Served) -> None:
    first = await keep(served)
    await create(served, name="one", secrets=["TOKEN"])
    second = await keep(served, value="another")
    assert (second.created_at, second.updated_at > first.updated_at) == (first.created_at, True)
    assert await printed(served, "one") == VALUE
    await create(served, name="two", secrets=["TOKEN"])
    assert await printed(served, "two") == "another"


async def test_a_fork_has_what_its_source_asked_for_as_it_is_now(served: Served) -> None:
    await keep(served)
    await create(served, name="one", secrets=["TOKEN"], env={"PLAIN": "seen"})
    await keep(served, value="another")
    forked = await served.service.fork("one", types.SandboxFork(name="two"), lambda stage: None)
    assert (forked.secrets, await printed(served, "two")) == (["TOKEN"], "another")
    assert await printed(served, "two", "PLAIN") == "seen"
    without = await create(served, name="three", source="two", secrets=[])
    assert (without.secrets, await printed(served, "three")) == ([], "")


async def test_a_fork_of_what_asked_for_a_secret_that_is_gone_says_so(served: Served) -> None:
    await keep(served)
    await create(served, name="one", secrets=["TOKEN"])
    await served.service.secrets.remove("TOKEN", ADMIN)
    assert await refused(served, name="two", source="one") == "secret-not-found"
    await create(served, name="two", source="one", secrets=[])


async def test_a_secret_of_somebody_else_is_not_there(served: Served) -> None:
    await keep(served, caller=HER)
    assert await refused(served, name="one", secrets=["TOKEN"]) == "secret-not-found"
    assert await served.service.secrets.list(ADMIN) == []
    for use in (served.service.secrets.get, served.service.secrets.remove):
        with pytest.raises(BhattiError) as caught:
            await use("TOKEN", ADMIN)
        assert caught.value.http_status == 404


async def test_what_cannot_be_a_secret_is_refused_without_showing_it(served: Served) -> None:
    for name, value in (("two words", VALUE), ("a/b", VALUE), ("a", f"{VALUE}\0")):
        with pytest.raises(InvalidRequest) as caught:
            await keep(served, name, value)
        assert VALUE not in f"{caught.value}{caught.value.hint}"
    assert await served.service.secrets.list(ADMIN) == []


async def test_there_is_a_limit_to_how_many_one_has(served: Served) -> None:
    await keep(served, "S0")
    (record,) = await served.journal.secrets.of("")
    for number in range(1, MAX_SECRETS):
        await served.journal.secrets.put(msgspec.structs.replace(record, name=f"S{number}"))
    await keep(served, "S1", "another")
    with pytest.raises(BhattiError) as caught:
        await keep(served, "one-more")
    assert caught.value.code == "too-many-secrets"


async def test_a_rotation_leaves_one_new_key_and_every_value(served: Served) -> None:
    for caller in (ADMIN, HER):
        await keep(served, caller=caller)
    before = key_file(served).read_text()
    sealed = [row.sealed for owner in ("", HER.owner) for row in await served.journal.secrets.of(owner)]
    assert await served.service.secrets.rotate_key() == types.KeyRotation(secrets=2)
    after = keyfile.read(key_file(served))
    assert after is not None
    assert (len(after), after.text() != before) == (1, True)
    assert not set(sealed) & {row.sealed for row in await served.journal.secrets.of("")}
    await create(served, name="one", secrets=["TOKEN"])
    assert await printed(served, "one") == VALUE


@pytest.mark.parametrize("point", ["new key", "new key+", "store", "store+", "old key gone", "old key gone+"])
async def test_a_rotation_that_ends_anywhere_loses_nothing_and_is_finished_by_the_next_daemon(
    directory: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """It ends before or (with a plus) after each of its three writes, and goes no further, as if it were killed."""
    names = iter(["new key", "old key gone"])
    write, reseal = keyfile.write, SecretJournal.reseal

    def ends(at: str) -> None:
        if at == point:
            raise OSError("ended here")

    def write_until(path: Path, keys: Keys) -> None:
        name = next(names)
        ends(name)
        write(path, keys)
        ends(f"{name}+")

    async def reseal_until(self: SecretJournal, again: Callable[[str, bytes], bytes]) -> int:
        ends("store")
        count = await reseal(self, again)
        ends("store+")
        return count

    async with serving(directory) as served:
        await keep(served)
        monkeypatch.setattr(keyfile, "write", write_until)
        monkeypatch.setattr(SecretJournal, "reseal", reseal_until)
        with pytest.raises((OSError, BhattiError)):
            await served.service.secrets.rotate_key()
        monkeypatch.undo()
        await create(served, name="one", secrets=["TOKEN"])
        assert await printed(served, "one") == VALUE
    async with serving(directory) as served:
        keys = keyfile.read(key_file(served))
        assert keys is not None
        assert len(keys) == 1
        await create(served, name="two", secrets=["TOKEN"])
        assert await printed(served, "two") == VALUE


async def test_a_key_file_that_others_can_read_is_refused_until_it_is_put_right(served: Served) -> None:
    await keep(served)
    key_file(served).chmod(0o644)
    assert await refused(served, name="one", secrets=["TOKEN"]) == "secret-key-exposed"
    with pytest.raises(BhattiError) as caught:
        await keep(served, "other")
    assert caught.value.code == "secret-key-exposed"
    key_file(served).chmod(0o600)
    await create(served, name="one", secrets=["TOKEN"])


async def test_a_lost_key_is_never_replaced_by_a_new_one(directory: Path) -> None:
    async with serving(directory) as served:
        await keep(served)
        key_file(served).rename(directory / "kept")
    async with serving(directory) as served:
        assert await refused(served, name="one", secrets=["TOKEN"]) == "secret-key-missing"
        with pytest.raises(BhattiError) as caught:
            await keep(served, "other")
        assert caught.value.code == "secret-key-missing"
        assert not key_file(served).exists()
        await create(served, name="one")
        (directory / "kept").rename(key_file(served))
        await create(served, name="two", secrets=["TOKEN"])


async def test_an_old_backup_is_read_with_its_old_key_added(directory: Path) -> None:
    async with serving(directory) as served:
        await keep(served)
        old = key_file(served).read_text()
        (record,) = await served.journal.secrets.of("")
        await served.service.secrets.rotate_key()
        await served.journal.secrets.put(record)  # as a restored copy of the store has it
        assert await refused(served, name="one", secrets=["TOKEN"]) == "secret-unreadable"
        with key_file(served).open("a") as file:
            file.write(old)
    async with serving(directory) as served:
        keys = keyfile.read(key_file(served))
        assert keys is not None
        assert len(keys) == 1
        await create(served, name="one", secrets=["TOKEN"])
