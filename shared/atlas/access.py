"""Who may do what on the NATS server: each role's permissions, made from `subjects`. Pure.

Services and operators are users of one account, `ATLAS`, which has JetStream. Each tenant's user
is an account of its own: it imports the doors and the live subjects of its tenant, and nothing
else exists for it. So no reply subject, header or JetStream call of it means anything outside
(docs/decisions/0012-access.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from atlas import subjects
from atlas.contracts.tasks import Priority
from atlas.gauges import QUEUES_OF_CONTROLLERS, QUEUES_OF_ROUTERS
from atlas.settings import TopologySettings
from atlas.topology import Topology

ACCOUNT = "ATLAS"
"""The account of services and operators."""

ANSWER_S = 900
"""So long an answer finds its way back to a tenant: longer than `api.generate` may take."""

_ANSWERS_TO_TENANTS = f"{subjects.IMPORTED_REPLY}.>"
"""The server makes such a reply subject for each request that comes from another account."""


class Role(StrEnum):
    """What a user is for."""

    PROVIDER_ROUTER = "provider_router"
    AGENT_CONTROLLER = "agent_controller"
    AGENT_WORKER = "agent_worker"
    OPERATOR = "operator"
    PUBLISHER = "publisher"
    WATCHER = "watcher"

    @property
    def is_of_a_tenant(self) -> bool:
        """Whether its users belong to a tenant, and not to the installation."""
        return self in {Role.PUBLISHER, Role.WATCHER}


MEANINGS = {
    Role.PROVIDER_ROUTER: "a provider router",
    Role.AGENT_CONTROLLER: "an agent controller",
    Role.AGENT_WORKER: "an agent worker, of all capabilities or of those named",
    Role.OPERATOR: "whoever runs `atlas top`, `doctor` and `admin`: everything",
    Role.PUBLISHER: "a tenant's program: asks models, submits tasks, watches and controls them",
    Role.WATCHER: "reads a tenant's streams, tasks and events, and changes nothing",
}


@dataclass(frozen=True, slots=True)
class Permissions:
    """The subjects that a user may publish on and subscribe to; all others are refused."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may connect."""

    name: str
    role: Role
    tenant: str | None = None
    """Of a tenant's user."""
    capabilities: tuple[str, ...] = ()
    """Of a worker; none: every one."""

    @property
    def account(self) -> str:
        """The account of the server that it is in."""
        return self.name if self.role.is_of_a_tenant else ACCOUNT

    @property
    def inbox(self) -> str:
        """How the subjects begin to which its answers are sent: `nats.inbox_prefix`."""
        return subjects.inbox(self.tenant or self.role, self.name)


def permissions(user: User) -> Permissions:
    """What a user may do."""
    match user.role:
        case Role.PROVIDER_ROUTER:
            publish, subscribe = _router()
        case Role.AGENT_CONTROLLER:
            publish, subscribe = _controller()
        case Role.AGENT_WORKER:
            publish, subscribe = _worker(user.capabilities)
        case Role.OPERATOR:
            publish, subscribe = [">"], [">"]
        case Role.PUBLISHER | Role.WATCHER:
            publish, subscribe = services_for(user), streams_for(user)
    return Permissions(tuple(sorted(publish)), tuple(sorted({*subscribe, f"{user.inbox}.>"})))


def services_for(user: User) -> list[str]:
    """What a tenant's user may ask, or put into a durable door."""
    doors = list(subjects.READING_DOORS) if user.role is Role.WATCHER else tenant_services()
    return [subjects.of_tenant(one, user.tenant or "") for one in doors]


def streams_for(user: User) -> list[str]:
    """What a tenant's user hears."""
    return [subjects.of_tenant(one, user.tenant or "") for one in tenant_streams()]


def tenant_services() -> list[str]:
    """All that tenants may ask, or put into a durable door, for every tenant."""
    return [
        *subjects.ROUTER_DOORS,
        *subjects.CONTROLLER_DOORS,
        *(subjects.lane_requests(lane) for lane in subjects.LANES),
        subjects.STREAM_CONTROL_ALL,
        subjects.TASK_SUBMIT_ALL,
        subjects.TASK_CONTROL_ALL,
    ]


def tenant_streams() -> list[str]:
    """All that tenants may hear, for every tenant."""
    return [
        subjects.stream_chunk("*", "*"),
        subjects.task_log("*", "*"),
        subjects.EVENT_ALL,
    ]


def _router() -> tuple[list[str], list[str]]:
    lanes = [subjects.lane_consumer(lane) for lane in subjects.LANES]
    circuits = subjects.bucket_stream(subjects.CIRCUITS)
    publish = [
        *assets(),
        *_telling(Role.PROVIDER_ROUTER),
        *_answering(Role.PROVIDER_ROUTER, Role.AGENT_CONTROLLER, Role.AGENT_WORKER),
        _ANSWERS_TO_TENANTS,
        subjects.STREAM_OWNER_ALL,
        subjects.STREAM_WRITE_ALL,
        subjects.STREAM_CONTROL_ALL,
        subjects.lane_requests("interactive"),  # where `api.generate` puts what it is asked
        subjects.dead("*", "request", "*"),
        subjects.BUDGET_ALL,
        subjects.USAGE_ALL,
        subjects.RESERVATION_ALL,
        subjects.bucket_key(subjects.CIRCUITS, "*"),
        *_reads(subjects.REQUESTS, subjects.STREAMS, subjects.CONTROL, circuits),
        *_reads(subjects.BUDGETS, subjects.RESERVATIONS),
        *_reads(subjects.objects_stream(subjects.OBJECTS)),  # pictures and files of requests
        subjects.jetstream("STREAM.MSG.DELETE", subjects.RESERVATIONS),
        *_erases(subjects.REQUESTS, subjects.STREAMS, subjects.CONTROL, subjects.DEAD),
        *_pulls(subjects.REQUESTS, lanes),
        *_counts(QUEUES_OF_ROUTERS),
    ]
    subscribe = [
        *subjects.ROUTER_DOORS,
        *_service_verbs(Role.PROVIDER_ROUTER),
        subjects.STREAM_CONTROL_ALL,
        subjects.stream_chunk("*", "*"),  # `api.generate` makes one answer of them
        subjects.events_of("*", Role.PROVIDER_ROUTER, "service.health"),
        subjects.events_of("*", Role.PROVIDER_ROUTER, "stream.feedback"),
        subjects.bucket_key(subjects.CIRCUITS, ">"),
    ]
    return publish, subscribe


def _controller() -> tuple[list[str], list[str]]:
    open_tasks = subjects.bucket_stream(subjects.OPEN_TASKS)
    publish = [
        *assets(),
        *_telling(Role.AGENT_CONTROLLER),
        *_answering(Role.AGENT_CONTROLLER),
        _ANSWERS_TO_TENANTS,
        subjects.TASK_WRITE_ALL,
        subjects.UPLOAD_ALL,
        subjects.TASK_SUBMIT_ALL,  # where `api.task.submit` puts what it is asked
        subjects.WORK_ALL,
        subjects.STREAM_CONTROL_ALL,
        subjects.dead("*", "submit", "*"),
        subjects.dead("*", "report", "*"),
        subjects.bucket_key(subjects.OPEN_TASKS, ">"),
        *_erases(open_tasks, subjects.REPORTS, subjects.CONTROL, subjects.SUBMITS, subjects.DEAD),
        *_erases(subjects.TASKS, subjects.UPLOADS),
        subjects.jetstream("STREAM.MSG.DELETE", subjects.WORK),
        subjects.jetstream("STREAM.MSG.DELETE", subjects.DEAD),
        subjects.API_STREAM_DELETE_ALL,  # the streams of a task that is deleted
        *_reads(subjects.WORK, subjects.DEAD, subjects.UPLOADS),
        subjects.jetstream("CONSUMER.INFO", subjects.WORK, "*"),  # how much work waits
        *_reads(subjects.SUBMITS, subjects.TASKS, subjects.REPORTS, subjects.CONTROL),
        *_reads(subjects.EVENTS),  # which workers said lately that they are there
        *_objects(),
        *_pulls(subjects.SUBMITS, [subjects.CONTROLLERS]),
        *_pulls(subjects.REPORTS, [subjects.CONTROLLERS]),
        *_counts(QUEUES_OF_CONTROLLERS),
    ]
    subscribe = [
        *subjects.CONTROLLER_DOORS,
        *_service_verbs(Role.AGENT_CONTROLLER),
        subjects.TASK_CONTROL_ALL,
        subjects.events_of("*", Role.AGENT_WORKER, "service.health"),
        subjects.events_of("*", Role.AGENT_CONTROLLER, "service.health"),
        subjects.events_of("*", "*", "worker.gone"),
    ]
    return publish, subscribe


def _worker(capabilities: Sequence[str]) -> tuple[list[str], list[str]]:
    consumers = [
        subjects.work_consumer(capability, priority)
        for capability in capabilities
        for priority in Priority
    ] or ["*"]
    publish = [
        *assets(),
        *_telling(Role.AGENT_WORKER),
        *_answering(Role.AGENT_WORKER),
        subjects.REPORT_ALL,
        subjects.RESULT_ALL,
        subjects.dead("*", "work", "*"),
        subjects.API_PROVIDERS_ALL,
        subjects.API_STREAM_FEEDBACK_ALL,
        *(subjects.lane_requests(lane) for lane in subjects.LANES),
        subjects.STREAM_CONTROL_ALL,
        *_reads(subjects.STREAMS, subjects.TASKS, subjects.REPORTS),
        *_objects(),
        *(
            subjects.jetstream("CONSUMER.DURABLE.CREATE", subjects.WORK, consumer)
            for consumer in consumers
        ),
        *_pulls(subjects.WORK, consumers),
    ]
    subscribe = [
        *_service_verbs(Role.AGENT_WORKER),
        subjects.stream_chunk("*", "*"),
        subjects.task_log("*", "*"),
        subjects.events_of("*", Role.AGENT_CONTROLLER, "worker.gone"),
        *(subjects.capability_work(capability, "*") for capability in capabilities or ["*"]),
    ]
    return publish, subscribe


def assets() -> list[str]:
    """What `topology.ensure` asks: every service makes what is missing, and checks the rest."""
    topology = Topology(TopologySettings())
    return [
        subjects.jetstream("INFO"),
        *(
            subjects.jetstream(call, one.name)
            for one in topology.expected()
            for call in ("STREAM.CREATE", "STREAM.INFO")
        ),
        *(
            subjects.jetstream("CONSUMER.DURABLE.CREATE", stream, consumer.durable_name or "")
            for stream, consumer in topology.consumers()
        ),
    ]


def _telling(role: Role) -> list[str]:
    """Its events, and the question whether it runs, which is its container's health check."""
    return [subjects.events_of("*", role), subjects.service_verb("PING", _micro(role))]


def _answering(*others: Role) -> list[str]:
    """Where a service answers: operators, who may ask everything, itself, and other services.

    Not by the server's `allow_responses`: it remembers every reply subject of every message until
    its time is over, and looks through all of them at each message above 4,096.
    """
    return [f"{subjects.inbox(role, '*')}.>" for role in (Role.OPERATOR, *others)]


def _erases(*streams: str) -> list[str]:
    return [subjects.jetstream("STREAM.PURGE", stream) for stream in streams]


def _reads(*streams: str) -> list[str]:
    return [subjects.jetstream("DIRECT.GET", stream) for stream in streams]


def _pulls(stream: str, consumers: Sequence[str]) -> list[str]:
    return [
        one
        for consumer in consumers
        for one in (
            subjects.jetstream("CONSUMER.MSG.NEXT", stream, consumer),
            subjects.acks(stream, consumer),
        )
    ]


def _counts(streams: Sequence[str]) -> list[str]:
    """What waits in the consumers of streams, where metrics are exported."""
    return [subjects.jetstream("CONSUMER.LIST", stream) for stream in streams]


def _objects() -> list[str]:
    """Large values, written and read."""
    stream = subjects.objects_stream(subjects.OBJECTS)
    return [
        *_reads(stream),
        subjects.jetstream("STREAM.MSG.GET", stream),
        subjects.jetstream("STREAM.PURGE", stream),
        subjects.object_chunks(subjects.OBJECTS, "*"),
        subjects.object_meta(subjects.OBJECTS, "*"),
    ]


def _service_verbs(role: Role) -> list[str]:
    name = _micro(role)
    return [
        subject
        for verb in subjects.SERVICE_VERBS
        for subject in (
            subjects.service_verb(verb),
            subjects.service_verb(verb, name),
            subjects.service_verb(verb, name, "*"),
        )
    ]


def _micro(role: Role) -> str:
    """What a service is called in NATS's service protocol."""
    return role.replace("_", "-")
