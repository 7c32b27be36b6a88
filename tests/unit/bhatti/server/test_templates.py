import inspect

from bhatti.daemon.templates import Templates
from bhatti.server.templates import TemplateBackend


def test_the_interface_has_the_only_copy_of_the_docstrings() -> None:
    for name in TemplateBackend.__abstractmethods__:
        assert len(inspect.getdoc(getattr(TemplateBackend, name)) or "") > 20
        assert inspect.getdoc(getattr(Templates, name)) == "See `TemplateBackend`."
