import inspect

import pytest

from bhatti.daemon.accounts import AccountBook
from bhatti.server.accounts import Accounts


def test_all_of_it_must_be_done() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Accounts()  # type: ignore[abstract]


def test_the_interface_has_the_only_copy_of_the_docstrings() -> None:
    for name in Accounts.__abstractmethods__:
        assert len(inspect.getdoc(getattr(Accounts, name)) or "") > 20
        assert inspect.getdoc(getattr(AccountBook, name)) == "See `Accounts`."
