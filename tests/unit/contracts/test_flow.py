"""How a stream may be asked to flow: each parameter with its mode, each bound in its range."""

import pytest
from pydantic import ValidationError

from atlas.contracts.flow import BufferOptions


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"coalesce": "off"},
        {"coalesce": "time", "coalesce_ms": 50},
        {"coalesce": "time", "coalesce_ms": 50, "coalesce_chars": 200},
        {"coalesce": "size", "coalesce_chars": 200},
        {"coalesce": "size", "coalesce_chars": 200, "coalesce_ms": 50},
        {"coalesce": "delimiter", "coalesce_delimiters": ["\n"]},
        {
            "coalesce": "delimiter",
            "coalesce_delimiters": ["\n", ". "],
            "coalesce_ms": 50,
            "coalesce_chars": 200,
        },
        {"max_unstored_bytes": 4096},
        {"max_paused_ms": 1},
        {"max_paused_ms": 60_000, "on_max_paused": "resume"},
    ],
)
def test_what_fits_its_mode_is_taken(fields: dict[str, object]) -> None:
    assert BufferOptions.model_validate(fields).model_fields_set == set(fields)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"coalesce": "time"}, "`time` needs coalesce_ms"),
        ({"coalesce": "size", "coalesce_ms": 5}, "`size` needs coalesce_chars"),
        ({"coalesce": "delimiter"}, "`delimiter` needs coalesce_delimiters"),
        ({"coalesce_ms": 5}, "coalesce_ms means nothing with coalesce `adaptive`"),
        ({"coalesce": "off", "coalesce_chars": 5}, "set coalesce to `size` or `time`"),
        (
            {"coalesce": "time", "coalesce_ms": 5, "coalesce_delimiters": ["\n"]},
            "set coalesce to `delimiter`",
        ),
        ({"coalesce": "time", "coalesce_ms": 0}, "coalesce_ms"),
        ({"coalesce": "time", "coalesce_ms": 60_001}, "coalesce_ms"),
        ({"coalesce": "size", "coalesce_chars": 65_537}, "coalesce_chars"),
        ({"coalesce": "delimiter", "coalesce_delimiters": []}, "coalesce_delimiters"),
        ({"coalesce": "delimiter", "coalesce_delimiters": [""]}, "coalesce_delimiters"),
        ({"coalesce": "sentence"}, "coalesce"),
        ({"on_max_paused": "resume"}, "without max_paused_ms"),
        ({"max_paused_ms": 0}, "max_paused_ms"),
        ({"max_paused_ms": 5, "on_max_paused": "pause"}, "on_max_paused"),
        ({"max_unstored_bytes": 4095}, "max_unstored_bytes"),
        ({"max_unstored_bytes": 2**24 + 1}, "max_unstored_bytes"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_to_do(fields: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        BufferOptions.model_validate(fields)
