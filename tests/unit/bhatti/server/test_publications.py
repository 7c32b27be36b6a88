import inspect

from bhatti.daemon.publishing import Publishing
from bhatti.server.publications import PublicationBackend


def test_the_interface_has_the_only_copy_of_the_docstrings() -> None:
    for name in PublicationBackend.__abstractmethods__:
        assert len(inspect.getdoc(getattr(PublicationBackend, name)) or "") > 20
        assert inspect.getdoc(getattr(Publishing, name)) == "See `PublicationBackend`."
