"""How much may be under way at a time: the section `controller.limits` of the settings."""

from pydantic import Field

from atlas.provider_settings import Section


class TaskLimitSettings(Section):
    """Bounds of what is out at a time: dispatched to the workers, or running."""

    task_parallel: int = Field(
        default=1_000,
        ge=1,
        description="Subtasks of one task that are out; a task's `max_parallel` lowers it.",
    )
    task_waiting: int = Field(
        default=64,
        ge=1,
        description="Subtasks of one task, of a capability, that are out and that no worker has "
        "begun: what another task's work may stand behind.",
    )
