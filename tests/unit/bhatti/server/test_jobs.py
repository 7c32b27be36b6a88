import pytest

from bhatti.server.jobs import TaskBackend


def test_it_is_an_interface() -> None:
    with pytest.raises(TypeError, match="abstract"):
        TaskBackend()  # type: ignore[abstract]
    assert all(getattr(TaskBackend, name).__doc__ for name in TaskBackend.__abstractmethods__)
