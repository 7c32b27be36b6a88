"""Whatever a message holds, it survives the round trip through JSON."""

from hypothesis import given
from hypothesis import strategies as st

from lohar.wire.messages import ExecRequest, FileInfo
from lohar.wire.records import decode_list, encode_list

file_names = st.binary(min_size=1, max_size=20).map(
    lambda raw: raw.replace(b"\0", b"x").decode(errors="surrogateescape")
)
plain_text = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20)


@given(
    argv=st.lists(st.one_of(plain_text, file_names), max_size=5),
    env=st.dictionaries(plain_text.filter(bool), plain_text, max_size=3),
    rows=st.integers(0, 65535),
    timeout_sec=st.floats(0, 1e6),
    since=st.none() | st.integers(0, 2**63 - 1),
    flags=st.tuples(*[st.booleans()] * 4),
)
def test_any_exec_request_survives_the_round_trip(
    argv: list[str],
    env: dict[str, str],
    rows: int,
    timeout_sec: float,
    since: int | None,
    flags: tuple[bool, bool, bool, bool],
) -> None:
    tty, detach, takeover, exit_info = flags
    request = ExecRequest(
        argv=tuple(argv),
        env=env,
        rows=rows,
        timeout_sec=timeout_sec,
        since=since,
        tty=tty,
        detach=detach,
        takeover=takeover,
        exit_info=exit_info,
    )
    assert ExecRequest.from_json(request.to_json()) == request


@given(name=file_names, size=st.integers(0, 2**63 - 1), mtime=st.integers(-(2**63), 2**63 - 1))
def test_any_file_name_survives_the_round_trip(name: str, size: int, mtime: int) -> None:
    entry = FileInfo(name=name, size=size, mode="0644", mtime=mtime)
    assert decode_list(FileInfo, encode_list([entry])) == [entry]
