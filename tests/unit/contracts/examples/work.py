"""Examples of what passes between controllers and workers."""

from atlas.contracts.base import Contract
from atlas.contracts.work import Subtask, SubtaskReport, SubtaskResult, Timer

from .errors_and_events import AT_MS, ERROR
from .inference import BUDGET, COST, REQUIREMENTS, USAGE
from .tasks import ID, SCHEMA

WORK: dict[str, Contract] = {
    "Subtask": Subtask(
        task_id=ID,
        subtask_id="facts",
        attempt=1,
        capability="research",
        instruction="Collect the facts.",
        goal="Compare three lakes.",
        inputs={"task": {"lakes": 3}, "outline": {"output_ref": "default/survey-1/outline"}},
        output_schema=SCHEMA,
        requirements=REQUIREMENTS,
        tools=["search"],
        budget=BUDGET,
        task_budget=BUDGET,
        deadline_ms=AT_MS + 120_000,
        stream_id="stream-7",
        idempotency_key="survey-1:facts:1",
    ),
    "SubtaskReport": SubtaskReport(
        task_id=ID,
        subtask_id="facts",
        attempt=1,
        worker="worker-1",
        type="failed",
        stream_ids=["stream-7"],
        progress={"done": 3, "of": 5},
        error=ERROR,
        usage=USAGE,
        cost=COST,
    ),
    "SubtaskResult": SubtaskResult(
        task_id=ID,
        subtask_id="facts",
        attempt=1,
        worker="worker-1",
        output={"facts": ["deep", "cold"]},
        output_ref="default/survey-1/facts",
        replan="the sources are in Romansh",
        usage=USAGE,
        cost=COST,
    ),
    "Timer": Timer(
        task_id=ID, name="retry-facts", due_at_ms=AT_MS + 500, data={"subtask_id": "facts"}
    ),
}
