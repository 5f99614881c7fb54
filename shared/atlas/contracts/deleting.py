"""What has ended is removed again, at the wish of whoever owns it."""

from pydantic import Field

from atlas.contracts.base import Contract, Count, UserInput
from atlas.contracts.ids import StreamId, TaskId


class StreamDelete(UserInput):
    """Asks for the removal of all that is stored of a stream that has ended."""

    stream_id: StreamId


class StreamDeleted(Contract):
    """The stream's content is gone, and its id is used up."""

    stream_id: StreamId
    messages: Count = Field(description="How many were removed by this call.")


class TaskDelete(UserInput):
    """Asks for the removal of all that is stored of a task that has ended."""

    task_id: TaskId


class TaskDeleted(Contract):
    """The task is gone, with its streams, results and objects."""

    task_id: TaskId
    streams: Count = Field(description="How many of its streams were removed by this call.")
    objects: Count
    messages: Count = Field(description="Of its log, results, reports, work and controls.")
