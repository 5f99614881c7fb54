"""Every subject, stream, consumer and bucket name of Atlas; they are spelt nowhere else.

The table of subjects is contract A2. Functions build literal subjects, constants ending in `_ALL`
are the wildcards that services subscribe to, `parse` reads a literal subject back.
"""

from dataclasses import dataclass
from urllib.parse import quote, unquote

DEFAULT_TENANT = "default"

# JetStream streams (contract A2, last column).
REQUESTS = "ATLAS_REQUESTS"
STREAMS = "ATLAS_STREAMS"
CONTROL = "ATLAS_CONTROL"
SUBMITS = "ATLAS_SUBMITS"
TASKS = "ATLAS_TASKS"
WORK = "ATLAS_WORK"
REPORTS = "ATLAS_REPORTS"
EVENTS = "ATLAS_EVENTS"
DEAD = "ATLAS_DEAD"
BUDGETS = "ATLAS_BUDGETS"
RESERVATIONS = "ATLAS_RESERVATIONS"
UPLOADS = "ATLAS_UPLOADS"

# Buckets.
OBJECTS = "ATLAS_OBJECTS"
OPEN_TASKS = "ATLAS_OPEN"
CIRCUITS = "ATLAS_CIRCUITS"

# Queue groups: of the members of a group one gets each message.
ROUTERS = "routers"
CONTROLLERS = "controllers"

LANES = ("interactive", "batch")

# Wildcards for subscriptions and stream definitions.
API_GENERATE_ALL = "atlas.*.api.generate"
API_EMBED_ALL = "atlas.*.api.embed"
API_STREAM_HISTORY_ALL = "atlas.*.api.stream.history"
API_STREAM_FEEDBACK_ALL = "atlas.*.api.stream.feedback"
API_STREAM_DELETE_ALL = "atlas.*.api.stream.delete"
API_PROVIDERS_ALL = "atlas.*.api.providers"
API_TASK_SUBMIT_ALL = "atlas.*.api.task.submit"
API_TASK_GET_ALL = "atlas.*.api.task.get"
API_TASK_LIST_ALL = "atlas.*.api.task.list"
API_TASK_HISTORY_ALL = "atlas.*.api.task.history"
API_TASK_DELETE_ALL = "atlas.*.api.task.delete"
API_OBJECT_GET_ALL = "atlas.*.api.object.get"
API_OBJECT_PUT_ALL = "atlas.*.api.object.put"
STREAM_OWNER_ALL = "atlas.*.stream.*.owner"
STREAM_WRITE_ALL = "atlas.*.stream.*.write"
STREAM_CHUNK_REPUBLISHED = "atlas.{{wildcard(1)}}.stream.{{wildcard(2)}}.chunk"
STREAM_CONTROL_ALL = "atlas.*.stream.*.control"
TASK_SUBMIT_ALL = "atlas.*.task.*.submit"
TASK_WRITE_ALL = "atlas.*.task.*.write"
TASK_LOG_REPUBLISHED = "atlas.{{wildcard(1)}}.task.{{wildcard(2)}}.log"
TASK_CONTROL_ALL = "atlas.*.task.*.control"
WORK_ALL = "atlas.*.work.*.*"
REPORT_ALL = "atlas.*.report.*.*.*"
RESULT_ALL = "atlas.*.result.*.*"
EVENT_ALL = "atlas.*.event.*.>"
DEAD_ALL = "atlas.*.dead.*.*"
BUDGET_ALL = "atlas.*.budget.*.*.*"
USAGE_ALL = "atlas.*.usage.*.*.*"
RESERVATION_ALL = "atlas.*.reservation.*"
UPLOAD_ALL = "atlas.*.upload.*.*"

# The request/reply doors, by who answers, and those of them that only tell.
ROUTER_DOORS = (
    API_GENERATE_ALL,
    API_EMBED_ALL,
    API_STREAM_HISTORY_ALL,
    API_STREAM_FEEDBACK_ALL,
    API_STREAM_DELETE_ALL,
    API_PROVIDERS_ALL,
)
CONTROLLER_DOORS = (
    API_TASK_SUBMIT_ALL,
    API_TASK_GET_ALL,
    API_TASK_LIST_ALL,
    API_TASK_HISTORY_ALL,
    API_TASK_DELETE_ALL,
    API_OBJECT_GET_ALL,
    API_OBJECT_PUT_ALL,
)
READING_DOORS = (
    API_STREAM_HISTORY_ALL,
    API_PROVIDERS_ALL,
    API_TASK_GET_ALL,
    API_TASK_LIST_ALL,
    API_TASK_HISTORY_ALL,
    API_OBJECT_GET_ALL,
)

# What is not Atlas's own, and that it meets on its NATS server.
INBOX = "_INBOX"
"""How the subjects begin to which answers are sent."""
IMPORTED_REPLY = "_R_"
"""How they begin for requests that come from another account of the server."""
SERVICE_VERBS = ("PING", "INFO", "STATS")


def bucket_stream(bucket: str) -> str:
    """The JetStream stream of a key-value bucket."""
    return f"KV_{bucket}"


def objects_stream(bucket: str) -> str:
    """The JetStream stream of an object store."""
    return f"OBJ_{bucket}"


def bucket_key(bucket: str, key: str) -> str:
    """Where a key of a bucket is kept; `>` stands for all of them."""
    return f"$KV.{bucket}.{key}"


def object_chunks(bucket: str, object_id: str) -> str:
    """Where the content of an object is kept (NATS ADR-20)."""
    return f"$O.{bucket}.C.{object_id}"


def object_meta(bucket: str, name: str) -> str:
    """Where it is kept what an object is, under its name in base64; `*` stands for all of them."""
    return f"$O.{bucket}.M.{name}"


def jetstream(call: str, *names: str) -> str:
    """A call of JetStream's own API, such as `STREAM.INFO` of a stream."""
    return ".".join(("$JS.API", call, *names))


def acks(stream: str, consumer: str) -> str:
    """Where whoever reads a consumer says what became of its messages."""
    return f"$JS.ACK.{stream}.{consumer}.>"


def service_verb(verb: str, *names: str) -> str:
    """What NATS's service protocol asks of all services, of those of a name, or of one of them."""
    return ".".join(("$SRV", verb, *names))


def inbox(group: str, user: str) -> str:
    """How the subjects begin to which a user's answers are sent."""
    return f"{INBOX}.{group}.{user}"


def is_inbox(reply: str) -> bool:
    """Whether answers may go to a reply subject, which whoever asks chooses freely.

    A service may publish where its callers may not, so an answer to any other subject would be
    written there in its name: into another tenant's log, say.
    """
    return reply.startswith((f"{INBOX}.", f"{IMPORTED_REPLY}."))


def of_tenant(pattern: str, tenant: str) -> str:
    """A wildcard of this module for one tenant."""
    return pattern.replace("atlas.*.", f"atlas.{tenant}.", 1)


def api(tenant: str, door: str) -> str:
    """A request/reply door, such as `generate` or `task.submit`."""
    return f"atlas.{tenant}.api.{door}"


def stream_request(tenant: str, stream_id: str, lane: str = "interactive") -> str:
    """The durable door of a stream."""
    return f"atlas.{tenant}.stream.{stream_id}.request.{lane}"


def lane_requests(lane: str) -> str:
    """All requests of one lane."""
    return f"atlas.*.stream.*.request.{lane}"


def lane_consumer(lane: str) -> str:
    """The consumer through which routers pull one lane."""
    return f"routers-{lane}"


def stream_chunk(tenant: str, stream_id: str) -> str:
    """Where anyone watches a stream."""
    return f"atlas.{tenant}.stream.{stream_id}.chunk"


def stream_control(tenant: str, stream_id: str) -> str:
    """Where anyone controls a stream."""
    return f"atlas.{tenant}.stream.{stream_id}.control"


def stream_owner(tenant: str, stream_id: str) -> str:
    """Where a router claims a stream."""
    return f"atlas.{tenant}.stream.{stream_id}.owner"


def stream_write(tenant: str, stream_id: str) -> str:
    """Where the owner of a stream writes; republished as the chunk subject."""
    return f"atlas.{tenant}.stream.{stream_id}.write"


def task_submit(tenant: str, task_id: str) -> str:
    """The durable door of a task."""
    return f"atlas.{tenant}.task.{task_id}.submit"


def task_log(tenant: str, task_id: str) -> str:
    """Where anyone watches a task."""
    return f"atlas.{tenant}.task.{task_id}.log"


def task_control(tenant: str, task_id: str) -> str:
    """Where anyone controls a task."""
    return f"atlas.{tenant}.task.{task_id}.control"


def task_write(tenant: str, task_id: str) -> str:
    """Where controllers write a task's log; republished as the log subject."""
    return f"atlas.{tenant}.task.{task_id}.write"


def work(tenant: str, capability: str, priority: str) -> str:
    """Where a subtask waits for a worker."""
    return f"atlas.{tenant}.work.{capability}.{priority}"


def capability_work(capability: str, priority: str) -> str:
    """All work of one capability and priority, of every tenant."""
    return f"atlas.*.work.{capability}.{priority}"


def work_consumer(capability: str, priority: str) -> str:
    """The consumer through which workers pull one capability and priority."""
    return f"workers-{capability}-{priority}"


def report(tenant: str, task_id: str, subtask_id: str, attempt: int) -> str:
    """Where a worker reports on an attempt."""
    return f"atlas.{tenant}.report.{task_id}.{subtask_id}.{attempt}"


def result(tenant: str, task_id: str, subtask_id: str) -> str:
    """Where a worker puts a result; the first one wins."""
    return f"atlas.{tenant}.result.{task_id}.{subtask_id}"


def reports_of(tenant: str, task_id: str) -> str:
    """Every report on the subtasks of a task."""
    return f"atlas.{tenant}.report.{task_id}.*.*"


def results_of(tenant: str, task_id: str) -> str:
    """Every result of a task."""
    return f"atlas.{tenant}.result.{task_id}.*"


def work_of(tenant: str) -> str:
    """All work of a tenant."""
    return f"atlas.{tenant}.work.*.*"


def event(tenant: str, source: str, type_: str) -> str:
    """Where a service publishes an event; the type is the end of the subject."""
    return f"atlas.{tenant}.event.{source}.{type_}"


def events_of(tenant: str, source: str = "*", type_: str = ">") -> str:
    """The events of a tenant, of one source and type where given."""
    return f"atlas.{tenant}.event.{source}.{type_}"


def dead(tenant: str, kind: str, id_: str) -> str:
    """Where a dead letter is kept."""
    return f"atlas.{tenant}.dead.{kind}.{id_}"


def budget(tenant: str, scope: str, key: str, unit: str) -> str:
    """The counter of a budget: of a `day` or `month` by its date, of a `task` by its id."""
    return f"atlas.{tenant}.budget.{scope}.{key}.{unit}"


def usage(tenant: str, day: str, model: str, unit: str) -> str:
    """The counter of what a tenant used of a model in a day; a model's name becomes one token."""
    token = quote(model, safe="").replace(".", "%2E")
    return f"atlas.{tenant}.usage.{day}.{token}.{unit}"


def usage_of(tenant: str, day: str) -> str:
    """All counters of what a tenant used in a day."""
    return f"atlas.{tenant}.usage.{day}.*.*"


def model_of_usage(subject: str) -> tuple[str, str]:
    """The model and the unit that a usage counter is for."""
    model, unit = subject.split(".")[-2:]
    return unquote(model), unit


def reservation(tenant: str, reservation_id: str) -> str:
    """Where the record of a budget reservation stands while it is open."""
    return f"atlas.{tenant}.reservation.{reservation_id}"


def upload(tenant: str, object_id: str, number: int | str) -> str:
    """Where a part of an object waits for its last part; `*` stands for all of them."""
    return f"atlas.{tenant}.upload.{object_id}.{number}"


def object_name(tenant: str, object_id: str) -> str:
    """What a tenant's own object is called; no task's object is, for no id holds an `@`."""
    return f"{tenant}.@{object_id}"


def open_task(tenant: str, task_id: str) -> str:
    """The key of a task in the index of open tasks."""
    return f"{tenant}.{task_id}"


@dataclass(frozen=True, slots=True)
class Parsed:
    """A literal subject read back: `atlas.{tenant}.{kind}.{id}.{rest}`."""

    tenant: str
    kind: str
    id: str
    rest: str


def parse(subject: str) -> Parsed:
    """Read a literal subject of Atlas.

    Raises:
        ValueError: The subject is none of Atlas's.
    """
    root, _, tail = subject.partition(".")
    parts = tail.split(".", 3)
    if root != "atlas" or len(parts) < 3:  # noqa: PLR2004 - tenant, kind, id
        raise ValueError(f"{subject!r} is not a subject of Atlas (atlas.TENANT.KIND.ID…)")
    return Parsed(parts[0], parts[1], parts[2], parts[3] if len(parts) > 3 else "")  # noqa: PLR2004
