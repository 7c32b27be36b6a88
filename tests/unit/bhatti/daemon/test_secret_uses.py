import pytest

from bhatti.daemon.secret_uses import MAX_TOTAL_BYTES, checked, delivered, without
from bhatti.errors import InvalidRequest
from bhatti.model.origin import SecretUse
from bhatti.model.sandbox import GuestFile, SandboxSpec
from bhatti.operations.types import SecretWanted

SPEC = SandboxSpec(
    id="a",
    name="one",
    image="base",
    cpus=1,
    memory_mib=256,
    disk_mib=64,
    token="t",
    env={"HERE": "own"},
    files=(GuestFile(path="/here", content=b"own"),),
)


def test_a_plain_name_is_the_variable_of_that_name() -> None:
    wanted: list[str | SecretWanted] = [
        "TOKEN",
        SecretWanted(name="db-url", env="DB"),
        SecretWanted(name="TOKEN", file="/k", mode="0400"),
    ]
    assert checked(wanted) == (
        SecretUse(name="TOKEN", env="TOKEN"),
        SecretUse(name="db-url", env="DB"),
        SecretUse(name="TOKEN", file="/k", mode="0400"),
    )


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        (["two words"], "bad-name"),
        (["../x"], "bad-name"),
        (["db-url"], "bad-secret"),
        (["A", "A"], "bad-secret"),
        ([SecretWanted(name="a", env="A=B")], "bad-secret"),
        ([SecretWanted(name="a", env="A", file="/a")], "bad-secret"),
        ([SecretWanted(name="a", file="a")], "bad-secret"),
        ([SecretWanted(name="a", file="/a/")], "bad-secret"),
        ([SecretWanted(name="a", file="/a\0b")], "bad-secret"),
        ([SecretWanted(name="a", file="/x"), SecretWanted(name="b", file="/x")], "bad-secret"),
    ],
)
def test_what_cannot_be_is_refused(wanted: list[str | SecretWanted], code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        checked(wanted)
    assert caught.value.code == code
    assert caught.value.hint


def test_values_arrive_as_variables_and_as_files_of_their_mode() -> None:
    uses = (SecretUse(name="a", env="A"), SecretUse(name="a", file="/a", mode="0400"))
    told = delivered(SPEC, uses, {"a": "välue"})
    assert told.env == {"A": "välue", "HERE": "own"}
    assert told.files == (*SPEC.files, GuestFile(path="/a", content="välue".encode(), mode="0400"))


def test_what_was_asked_for_by_its_value_wins() -> None:
    uses = (SecretUse(name="a", env="HERE"), SecretUse(name="b", file="/here"))
    assert delivered(SPEC, uses, {"a": "secret", "b": "secret"}) == SPEC


def test_a_secret_takes_the_place_of_what_is_inherited() -> None:
    assert without({"A": "of the image", "B": "b"}, (SecretUse(name="x", env="A"),)) == {"B": "b"}


def test_all_of_them_together_have_a_limit() -> None:
    uses = tuple(SecretUse(name=str(n), env=f"V{n}") for n in range(2))
    half = "x" * (MAX_TOTAL_BYTES // 2)
    delivered(SPEC, uses, {"0": half, "1": half})
    with pytest.raises(InvalidRequest) as caught:
        delivered(SPEC, uses, {"0": half, "1": half + "x"})
    assert caught.value.code == "bad-secret"
