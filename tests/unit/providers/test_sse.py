"""The SSE parser: the same events wherever the bytes were cut."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from provider_router.providers.sse import SseParser


def parse(*pieces: bytes) -> list[tuple[bytes, bytes]]:
    parser = SseParser()
    events = [event for piece in pieces for event in parser.feed(piece)]
    return events + parser.end()


def test_an_event_has_its_name_and_data():
    assert parse(b"event: ping\ndata: {}\n\n") == [(b"ping", b"{}")]


def test_the_space_after_the_colon_may_be_missing():
    assert parse(b"data:1\n\ndata: 2\n\ndata:  3\n\n") == [(b"", b"1"), (b"", b"2"), (b"", b" 3")]


def test_lines_may_end_with_cr_lf():
    assert parse(b"event: a\r\ndata: 1\r\n\r\ndata: 2\r\n\r\n") == [(b"a", b"1"), (b"", b"2")]


def test_lines_of_data_are_joined_by_line_feeds():
    assert parse(b"data: 1\ndata\ndata: 2\n\n") == [(b"", b"1\n\n2")]


def test_comments_and_unknown_fields_are_ignored():
    assert parse(b": hello\n\nid: 1\nretry: 5\nfoo\n: x\ndata: 1\n\n") == [(b"", b"1")]


def test_an_event_without_data_is_none_and_its_name_is_forgotten():
    assert parse(b"event: ping\n\ndata: 1\n\n") == [(b"", b"1")]


def test_a_byte_order_mark_is_ignored():
    assert parse(b"\xef\xbb\xbfdata: 1\n\n") == [(b"", b"1")]


def test_the_last_event_counts_without_its_empty_line():
    assert parse(b"data: 1\n\ndata: 2") == [(b"", b"1"), (b"", b"2")]


def test_what_is_held_back_is_counted():
    parser = SseParser()
    parser.feed(b"data: 12345")
    parser.feed(b"6789")
    assert parser.pending_bytes == 15


_LINES = st.sampled_from(
    [b"data: x", b"data:", b"data: \xc3\xbc", b"event: e", b": c", b"", b"", b"id: 1", b"data"]
)


@given(st.lists(st.tuples(_LINES, st.sampled_from([b"\n", b"\r\n"]))), st.data())
def test_events_do_not_depend_on_the_cut(lines, data):
    body = b"".join(line + end for line, end in lines)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(body)), max_size=6)))
    edges = [0, *cuts, len(body)]
    pieces = [body[start:stop] for start, stop in pairwise(edges)]
    assert parse(*pieces) == parse(body)
