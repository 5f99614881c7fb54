"""Every subject of the contract's table, spelt out."""

import pytest

from atlas import subjects
from atlas.subjects import Parsed

TABLE = {
    subjects.api("acme", "generate"): "atlas.acme.api.generate",
    subjects.api("acme", "embed"): "atlas.acme.api.embed",
    subjects.api("acme", "stream.history"): "atlas.acme.api.stream.history",
    subjects.api("acme", "stream.feedback"): "atlas.acme.api.stream.feedback",
    subjects.api("acme", "providers"): "atlas.acme.api.providers",
    subjects.api("acme", "task.submit"): "atlas.acme.api.task.submit",
    subjects.stream_request("acme", "s"): "atlas.acme.stream.s.request.interactive",
    subjects.stream_request("acme", "s", "batch"): "atlas.acme.stream.s.request.batch",
    subjects.stream_chunk("acme", "s"): "atlas.acme.stream.s.chunk",
    subjects.stream_control("acme", "s"): "atlas.acme.stream.s.control",
    subjects.stream_owner("acme", "s"): "atlas.acme.stream.s.owner",
    subjects.stream_write("acme", "s"): "atlas.acme.stream.s.write",
    subjects.task_submit("acme", "t"): "atlas.acme.task.t.submit",
    subjects.task_log("acme", "t"): "atlas.acme.task.t.log",
    subjects.task_control("acme", "t"): "atlas.acme.task.t.control",
    subjects.task_write("acme", "t"): "atlas.acme.task.t.write",
    subjects.event("acme", "provider_router", "provider.circuit"): (
        "atlas.acme.event.provider_router.provider.circuit"
    ),
    subjects.work("acme", "research", "high"): "atlas.acme.work.research.high",
    subjects.report("acme", "t", "facts", 2): "atlas.acme.report.t.facts.2",
    subjects.result("acme", "t", "facts"): "atlas.acme.result.t.facts",
    subjects.dead("acme", "request", "s"): "atlas.acme.dead.request.s",
    subjects.budget("acme", "day", "2026-07-31", "tokens"): (
        "atlas.acme.budget.day.2026-07-31.tokens"
    ),
    subjects.usage("acme", "2026-07-31", "openai/gpt-4.1", "input_tokens"): (
        "atlas.acme.usage.2026-07-31.openai%2Fgpt-4%2E1.input_tokens"
    ),
    subjects.reservation("acme", "r"): "atlas.acme.reservation.r",
    subjects.upload("acme", "o", 3): "atlas.acme.upload.o.3",
}
WILDCARDS = {name: value for name, value in vars(subjects).items() if name.endswith("_ALL")}


def _covers(wildcard: str, subject: str) -> bool:
    """Whether NATS would deliver `subject` to a subscription on `wildcard`."""
    want, have = wildcard.split("."), subject.split(".")
    if want[-1] == ">":
        want, have = want[:-1], have[: len(want) - 1] if len(have) >= len(want) else []
    return len(want) == len(have) and all(
        one in ("*", other) for one, other in zip(want, have, strict=True)
    )


@pytest.mark.parametrize(("built", "written"), TABLE.items())
def test_a_subject_is_built_as_the_contract_writes_it(built: str, written: str) -> None:
    assert built == written


@pytest.mark.parametrize(("name", "wildcard"), WILDCARDS.items())
def test_a_wildcard_covers_a_subject_of_the_table(name: str, wildcard: str) -> None:
    of_tasks = ("task.get", "task.list", "task.history", "task.delete")
    tails = (*of_tasks, "stream.delete", "object.get", "object.put")
    doors = [subjects.api("acme", tail) for tail in tails]
    assert any(_covers(wildcard, subject) for subject in [*TABLE, *doors]), name


@pytest.mark.parametrize("lane", subjects.LANES)
def test_a_lane_holds_its_own_requests_only(lane: str) -> None:
    held = [
        one
        for one in subjects.LANES
        if _covers(subjects.lane_requests(lane), subjects.stream_request("acme", "s", one))
    ]
    assert held == [lane]


def test_a_worker_of_a_capability_sees_the_work_of_every_tenant() -> None:
    wildcard = subjects.capability_work("research", "high")
    assert _covers(wildcard, subjects.work("acme", "research", "high"))


def test_one_type_of_event_can_be_watched_of_every_source() -> None:
    wildcard = subjects.events_of("acme", type_="provider.circuit")
    assert _covers(wildcard, subjects.event("acme", "provider_router", "provider.circuit"))


@pytest.mark.parametrize("model", ["openai/gpt-4.1", "ollama/llama3.2:3b", "a b/*/>/%2E.ü"])
def test_a_model_of_any_name_is_one_token_of_its_usage_counter_and_read_back(model: str) -> None:
    subject = subjects.usage("acme", "2026-07-31", model, "microusd")
    assert _covers(subjects.usage_of("acme", "2026-07-31"), subject)
    assert not set(subject) & set(" *>")
    assert subjects.model_of_usage(subject) == (model, "microusd")


@pytest.mark.parametrize("subject", TABLE)
def test_every_subject_is_read_back_with_its_tenant(subject: str) -> None:
    assert subjects.parse(subject).tenant == "acme"


def test_a_stream_subject_is_read_back_in_its_parts() -> None:
    parsed = subjects.parse("atlas.acme.stream.s.request.batch")
    assert parsed == Parsed(tenant="acme", kind="stream", id="s", rest="request.batch")


def test_a_subject_that_ends_with_its_id_has_no_rest() -> None:
    assert subjects.parse("atlas.acme.api.generate") == Parsed("acme", "api", "generate", "")


@pytest.mark.parametrize("subject", ["", "atlas", "atlas.acme", "atlas.acme.api", "nats.a.b.c"])
def test_a_foreign_subject_is_no_subject_of_atlas(subject: str) -> None:
    with pytest.raises(ValueError, match="not a subject of Atlas"):
        subjects.parse(subject)


@pytest.mark.parametrize(
    "consumer",
    [subjects.lane_consumer("batch"), subjects.work_consumer("research", "high")],
)
def test_a_consumer_has_a_name_that_jetstream_takes(consumer: str) -> None:
    assert not set(consumer) & set(" .*>/\\")
