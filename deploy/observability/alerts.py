"""The alerts: when somebody is called, and what there is to do."""

from dataclasses import dataclass
from typing import Literal

from atlas.telemetry import names
from deploy.observability.asking import (
    INSTANCE,
    has,
    label,
    lacks,
    quantile,
    rate,
    same,
    share,
    told,
    total,
)
from deploy.observability.boards.parts import QUEUE

_WINDOW = "5m"


@dataclass(frozen=True, slots=True)
class Alert:
    """One rule."""

    name: str
    ask: str
    lasts: str
    """How long it must be so before somebody is called."""
    severity: Literal["critical", "warning"]
    says: str
    runbook: str

    def rule(self) -> dict[str, object]:
        """As Prometheus has it."""
        return {
            "alert": self.name,
            "expr": self.ask,
            "for": self.lasts,
            "labels": {"severity": self.severity},
            "annotations": {"summary": self.says, "runbook": self.runbook},
        }


def _value(attribute: str) -> str:
    return f"{{{{ $labels.{label(attribute)} }}}}"


_SHARE = "{{ $value | humanizePercentage }}"
_SECONDS = "{{ $value | humanizeDuration }}"
_THE_QUEUE = " ".join(_value(one) for one in QUEUE)
_WAITING = same(told(names.QUEUE_DEPTH), *QUEUE)
_TAKEN = same(told(names.QUEUE_IN_PROGRESS), *QUEUE)
_BUDGET = (names.TENANT, names.BUDGET_PERIOD, names.BUDGET_UNIT)
_OPEN = same(told(names.PROVIDER_CIRCUIT, has(names.CIRCUIT_STATE, "open")), names.ACCOUNT)
_FAILED = has(names.OUTCOME, "failed")


def _rate(series: str, *by: str) -> str:
    return rate(series, *by, window=_WINDOW)


def _nobody(name: str, metric: names.Metric, what: str, does: str) -> Alert:
    return Alert(
        name,
        f"absent({told(metric)})",
        "1m",
        "critical",
        f"No {what} is there: {does}.",
        f"Look whether any {what} runs and what its last log lines say; start one. Nothing "
        "accepted is lost, it waits in NATS. If one runs, look whether Prometheus reaches its "
        "/metrics.",
    )


_SERVICES = (
    _nobody("AtlasNoRouter", names.STREAMS_RUNNING, "provider router", "no model is asked"),
    _nobody("AtlasNoController", names.TASKS_HELD, "agent controller", "no task goes on"),
    _nobody("AtlasNoWorker", names.WORKER_RUNNING, "worker", "no subtask is done"),
    Alert(
        "AtlasWithoutNats",
        f"{told(names.NATS_CONNECTED)} == 0",
        "30s",
        "critical",
        f"{{{{ $labels.job }}}} {_value(INSTANCE)} has lost NATS.",
        "Look at the NATS server first (`atlas doctor`, its log, its disk). It reconnects by "
        "itself; if only one service is out, look at its network, and restart it.",
    ),
    Alert(
        "AtlasNatsReconnects",
        f"increase({told(names.NATS_RECONNECTS)}[15m]) > 3",
        "0m",
        "warning",
        f"The connection of {{{{ $labels.job }}}} {_value(INSTANCE)} to NATS breaks often.",
        "Look for `slow consumer` and restarts in the server's log, and for a late event loop of "
        "the service (AtlasEventLoopLate); then at the network between them.",
    ),
    Alert(
        "AtlasEventLoopLate",
        f"min_over_time({told(names.LOOP_LATENESS)}[1m]) > 0.25",
        "2m",
        "warning",
        f"{{{{ $labels.job }}}} {_value(INSTANCE)} is {_SECONDS} late.",
        "It has more to do than its core can: start another instance, or give it less "
        "(`router.max_streams`, `worker.concurrency`). On a shared machine look at who else runs.",
    ),
)
_QUEUES = (
    Alert(
        "AtlasQueueGrows",
        f"{_WAITING} > 100 and max by ({', '.join(map(label, QUEUE))}) "
        f"(deriv({told(names.QUEUE_DEPTH)}[10m])) > 0",
        "10m",
        "warning",
        f"The queue {_THE_QUEUE} has {{{{ $value }}}} waiting and grows.",
        "More comes than is done: start more routers (requests), controllers (submits, reports) "
        "or workers (work), unless a provider is the brake (dashboard Providers); "
        "`atlas top` shows who is busy.",
    ),
    Alert(
        "AtlasQueueStands",
        f"({_WAITING} > 0) unless ({_TAKEN} > 0)",
        "5m",
        "critical",
        f"What waits in {_THE_QUEUE} is taken by nobody.",
        "No running service takes from this queue: for work, start a worker with that capability "
        "or correct the plan's; `atlas doctor` and `atlas top` say who can do what.",
    ),
    Alert(
        "AtlasWorkersBusy",
        share(total(told(names.WORKER_RUNNING)), total(told(names.WORKER_CONCURRENCY))) + " > 0.95",
        "15m",
        "warning",
        f"Workers are busy to {_SHARE}.",
        "Start more workers, or raise `worker.concurrency` where their event loops are not late.",
    ),
    Alert(
        "AtlasDeadLetters",
        same(told(names.STORED_MESSAGES, has(names.JETSTREAM, "dead"))) + " > 0",
        "0m",
        "warning",
        "{{ $value }} messages could be taken by nobody.",
        "Read them with `nats stream view ATLAS_DEAD`: each has its reason and who sent it. "
        "Correct the sender and send it again; `nats stream purge ATLAS_DEAD` when all are seen.",
    ),
    Alert(
        "AtlasStreamFull",
        share(
            same(told(names.STORED_BYTES, lacks(names.JETSTREAM, "events")), names.JETSTREAM),
            same(told(names.STORED_LIMIT), names.JETSTREAM),
        )
        + " > 0.9",
        "5m",
        "warning",
        f"ATLAS_{_value(names.JETSTREAM)} (in capitals) is full to {_SHARE}.",
        "`submits` refuses when it is full: start controllers. `streams` and `dead` forget their "
        "oldest: raise `topology.max_bytes` or shorten `topology.replay_hours`, then "
        "`atlas admin assets --apply`.",
    ),
)
_WORK = (
    Alert(
        "AtlasStreamsFail",
        share(_rate(told(names.STREAMS_ENDED, _FAILED)), _rate(told(names.STREAMS_ENDED)))
        + " > 0.05",
        "5m",
        "warning",
        f"{_SHARE} of the streams fail.",
        "Dashboard Streams, panel Errors, says with which code; docs/contract.md says what each "
        "means. `provider_*`: dashboard Providers. `overloaded`: more routers.",
    ),
    Alert(
        "AtlasTasksFail",
        share(
            _rate(told(names.TASK_DURATION, _FAILED, part="count")),
            _rate(told(names.TASK_DURATION, part="count")),
        )
        + " > 0.1",
        "5m",
        "warning",
        f"{_SHARE} of the tasks fail.",
        "`atlas task list` names them, `atlas task show ID` the subtask and its error. Where many "
        "have the same capability, look at its worker's log.",
    ),
    Alert(
        "AtlasFirstContentLate",
        quantile(0.95, told(names.TIME_TO_FIRST_CHUNK, part="bucket"), window=_WINDOW) + " > 10",
        "10m",
        "warning",
        f"One stream in twenty waits {_SECONDS} or longer for its first content.",
        "Dashboard Providers says whose: move it back in its group, or race it "
        "(`hedge_after_ms`). Are all late, look at the routers' event loops.",
    ),
    Alert(
        "AtlasOverloaded",
        _rate(
            told(names.DOOR_DURATION, has(names.ERROR_TYPE, "overloaded"), part="count"), names.DOOR
        )
        + " > 0",
        "5m",
        "warning",
        f"The door {_value(names.DOOR)} refuses calls as overloaded.",
        "Callers may repeat them later. Is JetStream full (dashboard NATS, AtlasStreamFull), or "
        "the disk of its server? Else start more of that service, or raise its limits.",
    ),
)
_PROVIDERS = (
    Alert(
        "AtlasNoProvider",
        f"min ({_OPEN}) == 1",
        "1m",
        "critical",
        "The circuits of all providers are open: no model can be asked.",
        "`atlas providers` tells why each is open: a network, a refused key, or an outage. "
        "They are probed and close by themselves when a provider answers again.",
    ),
    Alert(
        "AtlasCircuitOpen",
        f"{_OPEN} == 1",
        "2m",
        "warning",
        f"The circuit of {_value(names.ACCOUNT)} is open.",
        "Other providers take its requests where a group or a model has others. "
        "`atlas providers` tells the last error; see the provider's status page and its key.",
    ),
    Alert(
        "AtlasProviderFails",
        share(
            _rate(told(names.PROVIDER_FAILURES), names.ACCOUNT),
            _rate(told(names.PROVIDER_ATTEMPTS), names.ACCOUNT),
        )
        + " > 0.2",
        "5m",
        "warning",
        f"{_SHARE} of the attempts at {_value(names.ACCOUNT)} fail.",
        "Dashboard Providers says with which errors. Rate limits: set the account's `limits`, add "
        "an account. Timeouts: see its status page.",
    ),
    Alert(
        "AtlasBudgetNearlySpent",
        share(same(told(names.BUDGET_SPENT), *_BUDGET), same(told(names.BUDGET_LIMIT), *_BUDGET))
        + " > 0.9",
        "0m",
        "warning",
        f"{_value(names.TENANT)} has spent {_SHARE} of its {_value(names.BUDGET_UNIT)} "
        f"({_value(names.BUDGET_PERIOD)}).",
        "At the limit its streams end with `budget_exceeded`. Talk to the tenant, or raise "
        "`budgets.tenants` (read again without a restart).",
    ),
)

ALERTS = (*_SERVICES, *_QUEUES, *_WORK, *_PROVIDERS)
