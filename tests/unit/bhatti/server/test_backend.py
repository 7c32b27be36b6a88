import inspect

import pytest

from bhatti.daemon.service import Service
from bhatti.server.backend import Backend


def test_a_backend_must_do_all_of_it() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Backend()  # type: ignore[abstract]


def test_the_interface_has_the_only_copy_of_the_docstrings() -> None:
    for name in Backend.__abstractmethods__:
        assert len(inspect.getdoc(getattr(Backend, name)) or "") > 20
        assert inspect.getdoc(getattr(Service, name)) == "See `Backend`."
