import inspect

from bhatti.daemon.secrets import Secrets
from bhatti.server.secrets import SecretBackend


def test_the_interface_has_the_only_copy_of_the_docstrings() -> None:
    for name in SecretBackend.__abstractmethods__:
        assert len(inspect.getdoc(getattr(SecretBackend, name)) or "") > 20
        assert inspect.getdoc(getattr(Secrets, name)) == "See `SecretBackend`."
