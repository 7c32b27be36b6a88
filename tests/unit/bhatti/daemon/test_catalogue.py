import msgspec
import pytest
from tests.unit.bhatti.store.rows import record

from bhatti.daemon import catalogue as module
from bhatti.daemon.catalogue import Catalogue
from bhatti.errors import Conflict, InvalidRequest, LimitExceeded, NotFound
from bhatti.model.sandbox import Status
from bhatti.model.user import ADMIN, Caller
from bhatti.store.journal import destroyed
from bhatti.store.sandboxes import Record

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


ANNA, BERT = Caller(owner="usr_a", name="anna"), Caller(owner="usr_b", name="bert")
HERS = msgspec.structs.replace(record("cccc000000000001", "one"), owner="usr_a")
HIS = msgspec.structs.replace(record("cccc000000000002", "one"), owner="usr_b")


def test_names_are_unique_per_owner_and_each_means_their_own() -> None:
    catalogue = Catalogue([ONE])
    catalogue.reserve(HERS)
    catalogue.reserve(HIS)
    assert [catalogue.find("one", caller) for caller in (ADMIN, ANNA, BERT)] == [ONE, HERS, HIS]
    assert catalogue.owned("usr_a") == [HERS]
    catalogue.drop(HERS.id)
    assert catalogue.find("one", BERT) == HIS


@pytest.mark.parametrize("ref", [HERS.id, HERS.id[:6], "cccc00000000000"])
def test_what_is_another_s_is_not_there(ref: str) -> None:
    catalogue = Catalogue([HERS])
    with pytest.raises(NotFound) as caught:
        catalogue.find(ref, BERT)
    with pytest.raises(NotFound) as nothing:
        Catalogue().find(ref, BERT)
    assert (caught.value.message, caught.value.hint, caught.value.code) == (
        nothing.value.message,
        nothing.value.hint,
        nothing.value.code,
    )
    catalogue.put(destroyed(HERS))
    with pytest.raises(NotFound) as gone:
        catalogue.find(HERS.id, BERT)
    assert gone.value.code == "sandbox-not-found"


def test_a_beginning_is_ambiguous_among_one_s_own_only() -> None:
    catalogue = Catalogue([HERS, HIS])
    assert catalogue.find("cccc", ANNA) == HERS
    with pytest.raises(InvalidRequest):
        catalogue.find("cccc")


def test_a_name_that_is_another_s_id_leads_to_one_s_own() -> None:
    sly = msgspec.structs.replace(record("dddd000000000001", HERS.id), owner="usr_b")
    catalogue = Catalogue([HERS, sly])
    assert catalogue.find(HERS.id, BERT) == sly
    assert catalogue.find(HERS.id, ANNA) == HERS


def test_the_administrator_means_by_a_name_their_own_else_the_only_one() -> None:
    assert Catalogue([HERS]).find("one") == HERS
    with pytest.raises(InvalidRequest, match=f"{HERS.id}, {HIS.id}") as caught:
        Catalogue([HERS, HIS]).find("one")
    assert caught.value.code == "ambiguous-name"


def test_what_speaks_against_a_sandbox_keeps_it_out() -> None:
    def admit(new: Record, owned: list[Record]) -> None:
        if owned:
            raise LimitExceeded("one is enough")

    catalogue = Catalogue([ONE], admit)
    catalogue.reserve(HERS)
    again = msgspec.structs.replace(HERS, id="cccc000000000003", name="two")
    with pytest.raises(LimitExceeded):
        catalogue.reserve(again)
    assert catalogue.get(again.id) is None
