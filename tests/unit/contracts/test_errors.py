"""One error shape: every class goes over the wire and comes back as itself."""

import pytest

from atlas.contracts import errors
from atlas.contracts.base import now_ms
from atlas.contracts.errors import (
    AtlasError,
    ErrorCategory,
    ErrorInfo,
    ErrorReply,
    ProviderError,
    ProviderRateLimitError,
    error_from,
)


def _family(root: type[AtlasError]) -> list[type[AtlasError]]:
    return [root, *(found for child in root.__subclasses__() for found in _family(child))]


# Only this module's classes: a test elsewhere may derive one of its own.
CLASSES = [one for one in _family(AtlasError) if one.__module__ == errors.__name__]


def _full(error: type[AtlasError]) -> AtlasError:
    return error(
        "what, where, what to do",
        retry_after_ms=1_500,
        provider="openai",
        http_status=429,
        details={"limit": "tokens"},
    )


def test_no_two_classes_share_a_code() -> None:
    codes = [one.code for one in CLASSES]
    assert sorted(set(codes)) == sorted(codes)


@pytest.mark.parametrize("error", CLASSES)
def test_every_class_has_a_category_of_the_contract(error: type[AtlasError]) -> None:
    assert error.category in ErrorCategory


@pytest.mark.parametrize("error", CLASSES)
def test_every_class_names_its_own_code(error: type[AtlasError]) -> None:
    assert "code" in vars(error)


@pytest.mark.parametrize("error", CLASSES)
def test_every_class_comes_back_from_the_wire_as_itself(error: type[AtlasError]) -> None:
    sent = _full(error).to_info().to_json()
    assert type(error_from(ErrorInfo.model_validate_json(sent))) is error


@pytest.mark.parametrize("error", CLASSES)
def test_every_field_comes_back_from_the_wire(error: type[AtlasError]) -> None:
    info = _full(error).to_info()
    assert error_from(info).to_info() == info


@pytest.mark.parametrize("error", CLASSES)
def test_every_class_stands_in_the_tree_at_the_top_of_its_module(error: type[AtlasError]) -> None:
    assert error.__name__ in (errors.__doc__ or "")


def test_every_class_that_a_provider_causes_says_so_in_its_code() -> None:
    odd = [one for one in _family(ProviderError) if not one.code.startswith("provider_")]
    assert odd == []


def test_a_code_we_do_not_know_is_read_as_the_root_of_all_errors() -> None:
    info = ErrorInfo(
        code="from_the_future", category=ErrorCategory.SERVER, message="new", retryable=True
    )
    assert type(error_from(info)) is AtlasError


def test_an_error_is_its_message_in_python() -> None:
    assert str(_full(ProviderRateLimitError)) == "what, where, what to do"


def test_a_door_answers_an_error_under_the_one_key() -> None:
    reply = _full(ProviderRateLimitError).to_reply()
    assert ErrorReply.model_validate_json(reply.to_json()).error.code == "provider_rate_limit"


def test_the_clock_of_the_wire_counts_milliseconds() -> None:
    year_2020_ms, year_2200_ms = 1_577_836_800_000, 7_258_118_400_000
    assert year_2020_ms < now_ms() < year_2200_ms
