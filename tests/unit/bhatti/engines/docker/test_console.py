from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.dockerd import PrivateDocker
from tests.unit.bhatti.engines.docker.conftest import new_spec

from bhatti.engines.docker.api import DockerApi
from bhatti.engines.docker.console import demultiplex, read_blocking, tail
from bhatti.engines.docker.engine import DockerEngine
from bhatti.errors import MissingDependency

pytestmark = pytest.mark.anyio


def frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4) + data


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary())))
def test_what_was_written_comes_out_in_order(pieces: list[tuple[int, bytes]]) -> None:
    framed = b"".join(frame(stream, data) for stream, data in pieces)
    assert demultiplex(framed) == b"".join(data for _, data in pieces)


@given(st.binary())
def test_nonsense_gives_some_bytes_of_it(framed: bytes) -> None:
    assert len(demultiplex(framed)) <= len(framed)


def test_a_frame_that_is_cut_off_gives_what_there_is() -> None:
    assert demultiplex(frame(1, b"whole") + frame(1, b"half of it")[:-3]) == b"wholehalf of"


def test_a_tail_is_the_end_in_bytes() -> None:
    assert tail(b"0123456789", 4) == "6789"
    assert tail(b"0123", 10) == "0123"
    assert tail("ü".encode(), 1) == "\N{REPLACEMENT CHARACTER}"
    assert tail(b"x", 0) == ""


async def test_the_output_of_a_container_is_read_without_an_event_loop(engine: DockerEngine, api: DockerApi) -> None:
    machine = await engine.create(new_spec())
    container = (await api.containers(f"bhatti.home={machine.id}"))[0].id
    output = await anyio.to_thread.run_sync(read_blocking, api.socket, api.prefix, container)
    assert output.startswith(b"lohar: ready ")


async def test_a_container_that_is_gone_has_no_output(docker: PrivateDocker, api: DockerApi) -> None:
    assert await anyio.to_thread.run_sync(read_blocking, docker.socket, api.prefix, "nonexistent") == b""


def test_without_docker_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingDependency):
        read_blocking(tmp_path / "docker.sock", "/v1.41", "x")
