import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bhatti.http1 import MAX_CHUNK_LINE_BYTES, ProtocolViolation, ResponseParser, chunk, parse_head, request_head


def parse(
    data: bytes, method: str = "GET", sizes: Callable[[], int] | None = None, *, eof: bool = True
) -> ResponseParser:
    parser = ResponseParser(method)
    parser.body = b""  # type: ignore[attr-defined]  # collected here, for the tests to look at
    while data:
        size = sizes() if sizes else len(data)
        parser.body += b"".join(parser.feed(data[:size]))  # type: ignore[attr-defined]
        data = data[size:]
    if eof:
        parser.feed_eof()
    return parser


def body(parser: ResponseParser) -> bytes:
    return parser.body  # type: ignore[attr-defined, no-any-return]


def test_a_request_is_its_line_its_headers_and_a_blank_line() -> None:
    head = request_head("GET", "/a?b=c", [("Host", "x"), ("Accept", "*/*")])
    assert head == b"GET /a?b=c HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "target", "value"), [("GET", "/a b", "x"), ("GET", "/\r\nX: y", "x"), ("GET", "/", "x\r\nEvil: y")]
)
def test_nothing_breaks_out_of_a_line_of_a_request(method: str, target: str, value: str) -> None:
    with pytest.raises(ProtocolViolation):
        request_head(method, target, [("Header", value)])


def test_a_body_by_length() -> None:
    parser = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloNEXT", eof=False)
    assert (body(parser), parser.done, parser.rest, parser.keep_alive) == (b"hello", True, b"NEXT", True)


def test_a_body_until_the_end_of_the_connection() -> None:
    parser = parse(b"HTTP/1.0 200 OK\r\n\r\nhello")
    assert (body(parser), parser.done, parser.keep_alive) == (b"hello", True, False)


def test_a_body_in_chunks_with_extensions_and_a_trailer() -> None:
    parser = parse(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nX: y\r\n\r\nNEXT",
        eof=False,
    )
    assert (body(parser), parser.done, parser.rest) == (b"hello!", True, b"NEXT")


@given(st.lists(st.binary(max_size=300), max_size=20), st.data())
def test_chunks_come_out_as_they_went_in_however_they_are_cut(pieces: list[bytes], data: st.DataObject) -> None:
    raw = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    raw += b"".join(chunk(piece) for piece in pieces if piece) + chunk(b"")
    parser = parse(raw, sizes=lambda: data.draw(st.integers(1, 50)))
    assert parser.done
    assert body(parser) == b"".join(pieces)


@given(st.binary(max_size=400), st.data())
def test_any_bytes_are_taken_or_refused(raw: bytes, data: st.DataObject) -> None:
    prefix = data.draw(
        st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 \r\ntransfer-encoding: chunked\r\n\r\n"])
    )
    with contextlib.suppress(ProtocolViolation):
        assert parse(prefix + raw).done


@pytest.mark.parametrize("status", [204, 304])
def test_some_answers_have_no_body_whatever_they_say(status: int) -> None:
    parser = parse(b"HTTP/1.1 %d X\r\nContent-Length: 5\r\n\r\n" % status, eof=False)
    assert parser.done


def test_an_answer_to_head_has_no_body() -> None:
    assert parse(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD", eof=False).done


def test_after_a_switch_the_rest_is_the_other_protocols() -> None:
    parser = parse(b"HTTP/1.1 101 Switching\r\n\r\n\x81\x00", eof=False)
    assert (parser.done, parser.rest) == (True, b"\x81\x00")


def test_an_interim_answer_is_passed_over() -> None:
    parser = parse(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", eof=False)
    assert parser.head is not None
    assert parser.head.status == 200


def test_any_number_of_interim_answers_is_passed_over() -> None:
    parser = parse(b"HTTP/1.1 100 \r\n\r\n" * 3000 + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", eof=False)
    assert parser.head is not None
    assert parser.head.status == 200


@pytest.mark.parametrize(
    ("headers", "left"),
    [
        (b"Content-Length: 100\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", []),
        (b"Transfer-Encoding: gzip, Chunked\r\nContent-Length: 2\r\n\r\n5\r\nhello\r\n0\r\n\r\n", []),
        (b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", ["5"]),
    ],
    ids=["chunks and a length", "chunks after a length", "one length twice"],
)
def test_an_answer_has_one_length_and_says_no_other(headers: bytes, left: list[str]) -> None:
    parser = parse(b"HTTP/1.1 200 OK\r\n" + headers, eof=False)
    assert parser.head is not None
    assert (body(parser), parser.done) == (b"hello", True)
    assert [value for name, value in parser.head.headers if name == "content-length"] == left


def test_headers_are_found_in_lower_case_and_may_repeat() -> None:
    head = parse_head(b"HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nSET-COOKIE: b")
    assert head.get("set-cookie") == "a"
    assert [value for name, value in head.headers if name == "set-cookie"] == ["a", "b"]
    assert head.get("absent", "no") == "no"


def test_connection_close_is_noticed() -> None:
    assert not parse(b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n", eof=False).keep_alive


def test_nothing_more_is_taken_once_the_body_is_complete() -> None:
    parser = parse(b"HTTP/1.1 204 X\r\n\r\n", eof=False)
    assert list(parser.feed(b"more")) == []
    assert parser.rest == b"more"
    parser.feed_eof()


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n bad: name\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX: a\nSet-Cookie: b\r\n\r\n",
        b"HTTP/1.1 200 OK\rX: a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        b"HTTP/1.1 099 Low\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"0" * (MAX_CHUNK_LINE_BYTES + 1),
    ],
)
def test_what_is_not_http_is_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        parse(raw, eof=False)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
    ],
)
def test_an_answer_that_breaks_off_is_told_from_one_that_ends(raw: bytes) -> None:
    with pytest.raises(ProtocolViolation, match="ended"):
        parse(raw)
