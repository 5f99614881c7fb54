"""How much may be under way at a time: the sections `controller.limits` and `media`."""

from typing import Annotated

from pydantic import Field

from atlas.contracts.ids import Capability
from atlas.provider_settings import Section


class TaskLimitSettings(Section):
    """Bounds of what is out at a time (dispatched, or running), and of what waits."""

    task_parallel: int = Field(
        default=1_000,
        ge=1,
        description="Subtasks of one task that are out; a task's `max_parallel` lowers it.",
    )
    tenant_parallel: int | None = Field(
        default=None, ge=1, description="Subtasks of one tenant that are out; by default any."
    )
    tenant_waiting: int = Field(
        default=64,
        ge=1,
        description="Subtasks of one tenant, of a capability and priority, that are out beyond "
        "what workers run of these; more when they take more within a second.",
    )
    capabilities: dict[Capability, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict,
        description="Subtasks of a capability that are out, of all tenants; by default any.",
    )
    task_waiting: int = Field(
        default=64,
        ge=1,
        description="Subtasks of one task, of a capability, that are out and that no worker has "
        "begun: what another task's work may stand behind.",
    )
    open_tasks: int = Field(
        default=10_000,
        ge=1,
        description="Open tasks of a tenant; above it `api.task.submit` answers `overloaded`, and "
        "what comes through the durable door waits there.",
    )
    submissions: int = Field(
        default=10_000,
        ge=1,
        description="Submissions of all tenants that wait to be accepted; above it "
        "`api.task.submit` answers `overloaded`.",
    )


_MIB = 2**20


class MediaSettings(Section):
    """Bounds of media in the object store; routers and controllers say the same."""

    max_object_bytes: int = Field(
        default=20 * _MIB,
        gt=0,
        description="The largest object that `api.object.put` takes, and that a request may name.",
    )
    max_request_bytes: int = Field(
        default=20 * _MIB, gt=0, description="All objects together that one request names."
    )
    max_held_bytes: int = Field(
        default=512 * _MIB,
        gt=0,
        description="What a router's running streams hold of objects; above it a request waits.",
    )
