import msgspec
import pytest
from tests.unit.bhatti.store.rows import record

from bhatti.daemon import catalogue as module
from bhatti.daemon.catalogue import Catalogue
from bhatti.errors import Conflict, InvalidRequest, NotFound
from bhatti.model.sandbox import Status
from bhatti.store.journal import destroyed

ONE = record("aaaa000000000001", "one")
TWO = record("aaaa000000000002", "two")
DEAD = record("bbbb000000000003", "dead", Status.FAILED)


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue([ONE, TWO, DEAD])


@pytest.mark.parametrize("ref", ["one", "aaaa000000000001"])
def test_a_sandbox_is_found_by_name_and_by_id(catalogue: Catalogue, ref: str) -> None:
    assert catalogue.find(ref) == ONE


@pytest.mark.parametrize("ref", ["bbb", "bbbb0000"])
def test_a_sandbox_is_found_by_the_unique_beginning_of_its_id(catalogue: Catalogue, ref: str) -> None:
    assert catalogue.find(ref) == DEAD


def test_an_ambiguous_beginning_names_the_candidates(catalogue: Catalogue) -> None:
    with pytest.raises(InvalidRequest, match="aaaa000000000001, aaaa000000000002") as caught:
        catalogue.find("aaaa")
    assert caught.value.code == "ambiguous-id"


def test_a_name_goes_before_the_beginning_of_an_id() -> None:
    named = record("cccc000000000004", "aaaa")
    assert Catalogue([ONE, named]).find("aaaa") == named


@pytest.mark.parametrize("ref", ["bb", "", "nobody", "x" * 500])
def test_what_is_not_there_is_not_found(catalogue: Catalogue, ref: str) -> None:
    with pytest.raises(NotFound) as caught:
        catalogue.find(ref)
    assert caught.value.code == "sandbox-not-found"
    assert len(caught.value.message) < 200


def test_a_name_can_be_reserved_once(catalogue: Catalogue) -> None:
    new = record("dddd000000000005", "new")
    catalogue.reserve(new)
    with pytest.raises(Conflict, match="'new' already exists") as caught:
        catalogue.reserve(record("eeee000000000006", "new"))
    assert caught.value.code == "name-taken"
    catalogue.drop(new.id)
    catalogue.reserve(record("eeee000000000006", "new"))


@pytest.mark.parametrize("ref", ["one", ONE.id])
def test_a_destroyed_sandbox_is_gone_but_not_unheard_of(catalogue: Catalogue, ref: str) -> None:
    catalogue.put(destroyed(ONE))
    assert len(catalogue) == 2
    with pytest.raises(NotFound, match="was destroyed at") as caught:
        catalogue.find(ref)
    assert caught.value.code == "sandbox-destroyed"


def test_the_name_of_a_destroyed_sandbox_is_free(catalogue: Catalogue) -> None:
    catalogue.put(destroyed(ONE))
    again = record("ffff000000000007", "one")
    catalogue.reserve(again)
    assert catalogue.find("one") == again


def test_only_so_many_destroyed_ones_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 2)
    catalogue = Catalogue([destroyed(record(f"{n:016x}", f"n{n}")) for n in range(4)])
    codes = []
    for number in range(4):
        with pytest.raises(NotFound) as caught:
            catalogue.find(f"n{number}")
        codes.append(caught.value.code)
    assert codes == ["sandbox-not-found"] * 2 + ["sandbox-destroyed"] * 2


def test_a_new_state_takes_the_place_of_the_old(catalogue: Catalogue) -> None:
    catalogue.put(msgspec.structs.replace(ONE, status=Status.FAILED))
    found = catalogue.get(ONE.id)
    assert found is not None
    assert found.status is Status.FAILED
    assert sorted(record.name for record in catalogue) == ["dead", "one", "two"]
    assert catalogue.get("nobody") is None


def test_dropping_nobody_is_no_error(catalogue: Catalogue) -> None:
    catalogue.drop("nobody")
    assert len(catalogue) == 3
