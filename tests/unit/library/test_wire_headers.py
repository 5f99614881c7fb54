"""Headers as they go out: fast where each is one line, and never a way to add another."""

import pytest

from atlas.wire import header_block


def test_headers_are_lines_behind_the_protocols_name():
    block = header_block({"Atlas-Version": "1", "Atlas-Task": "tä1"})
    assert block == "NATS/1.0\r\nAtlas-Version: 1\r\nAtlas-Task: tä1\r\n\r\n".encode()


@pytest.mark.parametrize("value", ["a\r\nNats-Rollup: all", "a\nb", "a\rb", "\r\n"])
def test_a_value_that_is_no_line_is_left_to_be_cleaned(value: str):
    assert header_block({"traceparent": value, "Atlas-Version": "1"}) is None
