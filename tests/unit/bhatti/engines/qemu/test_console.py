from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bhatti.engines.qemu import console


def test_the_tail_is_the_end_and_no_more(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_bytes(b"first\nlast\xff\n")
    assert console.tail(log, 6) == "last\ufffd\n"
    assert console.tail(log, 1000).startswith("first\n")
    assert console.tail(tmp_path / "none", 100) == ""


def test_a_console_that_grew_is_cut_to_its_end_while_somebody_appends(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    with log.open("ab", buffering=0) as guest:
        guest.write(b"a" * 900 + b"the end")
        assert console.trim(log, max_bytes=500, kept_bytes=100)
        guest.write(b" and more")
    assert log.stat().st_size == 109
    assert log.read_bytes().endswith(b"athe end and more")


def test_a_small_console_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_bytes(b"x" * 500)
    assert not console.trim(log, max_bytes=500, kept_bytes=100)
    assert log.stat().st_size == 500
    assert not console.trim(tmp_path / "none")


def test_all_consoles_are_cut(tmp_path: Path) -> None:
    logs = [tmp_path / name for name in ("one", "two")]
    for log in logs:
        log.write_bytes(bytes(console.MAX_CONSOLE_BYTES + 1))
    console.trim_all(logs)
    assert {log.stat().st_size for log in logs} == {console.KEPT_BYTES}


def test_the_last_ready_line_tells_the_parts_of_the_boot() -> None:
    text = 'x\r\nlohar: ready {"kernel": 1}\r\nlohar: ready {"kernel": 900.5, "python": 30}\r\nlater'
    assert console.boot_timings(text) == {"kernel": 900.5, "python": 30}


@pytest.mark.parametrize("text", ["", "lohar: ready", "lohar: ready {", 'lohar: ready {"a": "b"}', "lohar: ready {]}"])
def test_no_sane_ready_line_tells_nothing(text: str) -> None:
    assert console.boot_timings(text) == {}


def test_a_console_full_of_beginnings_holds_up_nobody() -> None:
    assert console.boot_timings((console.READY_MARK + "{") * (1 << 16)) == {}


@given(st.text())
def test_whatever_a_guest_writes_is_survived(text: str) -> None:
    console.boot_timings(text)
    console.boot_timings(console.READY_MARK + "{" + text + "}")


@pytest.mark.anyio
async def test_a_trimmer_cuts_again_until_it_is_ended_whatever_goes_wrong(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "TRIM_INTERVAL_S", 0.01)
    log = tmp_path / "console.log"
    cut = anyio.Event()
    looks = 0

    def consoles() -> list[Path]:
        nonlocal looks
        looks += 1
        if looks == 1:
            return [tmp_path / "console.log" / "not a directory"]
        if log.stat().st_size <= console.MAX_CONSOLE_BYTES:
            cut.set()
        return [log]

    log.write_bytes(bytes(console.MAX_CONSOLE_BYTES + 1))
    trimmer = console.Trimmer(consoles)
    trimmer.begin()
    with anyio.fail_after(60):
        await cut.wait()
    trimmer.end()
    trimmer.end()
    await trimmer.trim_now()
    assert "a console could not be cut" in caplog.text
    assert trimmer._next is None
