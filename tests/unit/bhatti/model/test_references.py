import pytest

from bhatti.errors import InvalidRequest
from bhatti.model.references import by_beginning

IDS = ["5f0c2b9a", "5f0d0000", "task_5f0c2b9a7d31", "task_8a"]


@pytest.mark.parametrize(
    ("ref", "meant"),
    [
        ("5f0c", "5f0c2b9a"),
        ("5f0c2b9a", "5f0c2b9a"),
        ("task_5f0", "task_5f0c2b9a7d31"),
        ("5f", None),
        ("task", None),
        ("task_", None),
        ("task_5f", None),
        ("", None),
        ("0c2b", None),
    ],
)
def test_the_beginning_of_one_id_alone_means_it(ref: str, meant: str | None) -> None:
    assert by_beginning(ref, IDS) == meant


def test_the_beginning_of_several_is_refused_with_their_names() -> None:
    with pytest.raises(InvalidRequest, match="'5f0' is the beginning of 2 ids: 5f0c2b9a, 5f0d0000") as caught:
        by_beginning("5f0", IDS)
    assert caught.value.code == "ambiguous-id"
