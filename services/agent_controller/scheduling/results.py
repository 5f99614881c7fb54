"""What stands in the place of a subtask's result, and what it does to the task.

There is one such place, and the first who takes it has it. So whatever stands there must end the
subtask, also when nobody can read it: no other result could ever be heard.
"""

from pydantic import ValidationError

from agent_controller.scheduling.large import fit_result
from agent_controller.tasks.intake import Intake, give_up, take_result
from agent_controller.tasks.view import TaskView
from atlas import subjects
from atlas.contracts.errors import ErrorInfo, InvalidRequestError
from atlas.contracts.task_events import TaskEvent
from atlas.contracts.work import SubtaskResult
from atlas.objects import Objects


async def read_result(objects: Objects, subject: str, data: bytes) -> SubtaskResult:
    """A worker's result as it may stand in the log.

    Raises:
        InvalidRequestError: It is none, or that of another subtask.
        StoreRefusedError: Its large output could not be kept; worth another try.
    """
    place = subjects.parse(subject)
    try:
        result = SubtaskResult.from_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidRequestError(
            f"{subject}: no SubtaskResult: {'.'.join(map(str, first['loc']))}: {first['msg']}; a "
            "worker took the place of the result with it, so the subtask cannot have another"
        ) from error
    if (result.task_id, result.subtask_id) != (place.id, place.rest):
        raise InvalidRequestError(
            f"{subject}: holds the result of {result.task_id}:{result.subtask_id}; a worker took "
            "the place with it, so the subtask cannot have another"
        )
    return await fit_result(objects, place.tenant, result)


def result_intake(result: SubtaskResult) -> Intake:
    """What a result does to its task."""

    def intake(view: TaskView, at_ms: int) -> list[TaskEvent]:
        record = view.subtasks.get(result.subtask_id)
        node = record.planned if record is not None else None
        return take_result(view, result, at_ms, node.output_schema if node else None)

    return intake


def end_intake(subtask_id: str, error: ErrorInfo) -> Intake:
    """What it does to a task that a subtask can come to no result."""

    def intake(view: TaskView, at_ms: int) -> list[TaskEvent]:
        return give_up(view, subtask_id, error, at_ms)

    return intake
