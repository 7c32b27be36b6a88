import pytest

from bhatti.errors import InvalidRequest
from bhatti.model.preferences import MAX_LABEL_VALUE, MAX_LABELS, relabelled


def test_labels_are_added_replaced_and_removed() -> None:
    before = {"team": "red", "stage": "one"}
    assert relabelled(before, {"team": "blue", "x": ""}, ["stage", "none"]) == {"team": "blue", "x": ""}
    assert before == {"team": "red", "stage": "one"}


def test_what_is_removed_and_added_at_once_is_there() -> None:
    assert relabelled({"a": "1"}, {"a": "2"}, ["a"]) == {"a": "2"}


@pytest.mark.parametrize(
    ("add", "remove"),
    [
        ({"": "x"}, ()),
        ({"a=b": "x"}, ()),
        ({"a\n": "x"}, ()),
        ({"k" * 129: "x"}, ()),
        ({"k": "v" * (MAX_LABEL_VALUE + 1)}, ()),
        ({"bhatti.sh/owner": "me"}, ()),
        ({}, ("bhatti.sh/owner",)),
        ({f"k{number}": "" for number in range(MAX_LABELS + 1)}, ()),
    ],
)
def test_impossible_labels_are_refused(add: dict[str, str], remove: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        relabelled({}, add, remove)
    assert caught.value.code == "bad-label"
    assert caught.value.hint


def test_as_many_and_as_long_as_there_may_be() -> None:
    most = {f"k{number}": "v" * MAX_LABEL_VALUE for number in range(MAX_LABELS)}
    assert relabelled({}, most) == most
