import json

import click
import pytest

from bhatti.cli import session
from bhatti.errors import InvalidRequest


def test_pairs_become_an_environment() -> None:
    assert session.environment(("A=1", "B=x=y", "C=")) == {"A": "1", "B": "x=y", "C": ""}


@pytest.mark.parametrize("pair", ["A", "=1", ""])
def test_what_is_no_pair_is_refused(pair: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        session.environment((pair,))
    assert caught.value.code == "bad-environment"


def test_json_is_one_line(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    session.print_json({"a": ["é", None]})
    out = capfdbinary.readouterr().out
    assert out.endswith(b"\n")
    assert json.loads(out) == {"a": ["é", None]}


def test_a_client_is_closed_when_its_command_ends(environment: None) -> None:
    with click.Context(click.Command("x")) as context, context.scope():
        made = session.client()
        assert str(made.endpoint) == str(session.endpoint())
        made._connection._socket = Closable()  # type: ignore[assignment]
    assert made._connection._socket is None


class Closable:
    def close(self) -> None:
        pass


def test_shape_options_are_those_of_a_sandbox() -> None:
    @click.command()
    @session.shape_options
    def command(image: str, cpus: int, memory: int, disk: int, env: tuple[str, ...]) -> None:
        pass

    assert [parameter.name for parameter in command.params] == ["image", "cpus", "memory", "disk", "env"]
