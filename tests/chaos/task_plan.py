"""What a run of chaos does with tasks: a pure function of its seed.

Every process of an Atlas is hit: controllers, workers, routers, and NATS. Models answer by the
mock, whose second account breaks and refuses now and then.
"""

import random
from dataclasses import dataclass
from typing import Any, Literal

from tests.chaos.faults import Fault, Kind, lasting_s
from tests.chaos.shared import FEW, SHORT_S, Control, perhaps_cancelled

PROCESSES = ("agent_controller",) * 3 + ("agent_worker",) * 4 + ("provider_router",) * 2
FEW_PROCESSES = ("agent_controller",) * 2 + ("agent_worker",) * 2 + ("provider_router",)
"""For a run among all other tests."""

_LONG_S = 75.0
_CAPABILITIES = ("research", "analysis", "draft", "review", "summarize", "general")

_PATTERNS: dict[str, dict[str, Any]] = {
    "single": {},
    "sequential": {},
    "parallel": {},
    "pipeline": {"stages": ["Collect.", "Order.", "Write."]},
    "debate": {"positions": ["for", "against"], "rounds": 1},
    "vote": {"voters": 3},
    "evaluate_optimize": {"rounds": 1},
}
"""Each with options that make a small plan."""

_BEYOND_EVERY_MODEL = {"context_tokens": 1_000_000_000}
"""Fails for good, so that a model has to change the plan."""

type Ends = Literal["task.completed", "task.failed", "task.cancelled"]


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """One task: what is asked, and what somebody does to it."""

    task_id: str
    at_s: float
    door: Literal["durable", "api"]
    request: dict[str, Any]
    controls: tuple[Control, ...]

    @property
    def may_end(self) -> set[Ends]:
        """The ends that are no fault of Atlas."""
        ends: set[Ends] = {"task.completed"}
        if "budget" in self.request:
            ends.add("task.failed")
        if self.request.get("on_approval_expired") == "reject" or any(
            control.action in {"cancel", "reject"} for control in self.controls
        ):
            ends.add("task.cancelled")
        return ends


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """Everything that a run does."""

    seed: int
    servers: int
    """Of NATS; three are a cluster that keeps everything three times."""
    processes: tuple[str, ...]
    tasks: tuple[PlannedTask, ...]
    faults: tuple[Fault, ...]


def task_plan_of(seed: int, tasks: int, servers: int = 1) -> TaskPlan:
    """The plan of a seed."""
    dice = random.Random(f"tasks {seed} {tasks} {servers}")
    is_short = tasks <= FEW
    length_s = SHORT_S if is_short else _LONG_S
    processes = FEW_PROCESSES if is_short else PROCESSES
    return TaskPlan(
        seed,
        servers,
        processes,
        tuple(_task(dice, f"t{seed}-{number}", length_s) for number in range(tasks)),
        tuple(sorted(_faults(dice, servers, processes, length_s), key=lambda fault: fault.at_s)),
    )


def _task(dice: random.Random, task_id: str, length_s: float) -> PlannedTask:
    request: dict[str, Any] = {"goal": f"the goal of {task_id}"}
    shape = dice.choice([*_PATTERNS, *["graph"] * len(_PATTERNS)])
    if shape == "graph":
        request["plan"] = _graph(dice)
        if dice.random() < 0.2:
            dice.choice(request["plan"])["requirements"] = _BEYOND_EVERY_MODEL
            request["max_replans"] = 1
    else:
        request["pattern"], request["pattern_options"] = shape, _PATTERNS[shape]
    request["on_failure"] = dice.choice(["fail", "best_so_far"])
    request["priority"] = dice.choice(["low", "normal", "high"])
    if dice.random() < 0.15:
        request["budget"] = {"max_tokens": dice.randint(100, 3_000)}
    controls = _controls(dice)
    if dice.random() < 0.1:
        request["approval"] = "plan"
        answer = "reject" if dice.random() < 0.3 else "approve"
        controls = [Control(dice.uniform(1, 3), answer)]
        is_silent = dice.random() < 0.4
        if is_silent or "max_replans" in request:  # a plan that changed is asked about again
            request["approval_expires_ms"] = dice.randint(200, 2_000)
            request["on_approval_expired"] = answer
            controls = []
    return PlannedTask(
        task_id=task_id,
        at_s=dice.uniform(0, 0.85 * length_s),
        door=dice.choice(["durable", "api"]),
        request=request,
        controls=tuple(controls),
    )


def _graph(dice: random.Random) -> list[dict[str, Any]]:
    """Up to six subtasks, each after some of those before it."""
    ids = [f"n{number}" for number in range(dice.randint(1, 6))]
    return [
        {
            "id": id_,
            "capability": dice.choice(_CAPABILITIES),
            "instruction": f"Do the part {id_}.",
            "depends_on": sorted(dice.sample(ids[:place], dice.randint(0, min(2, place)))),
        }
        for place, id_ in enumerate(ids)
    ]


def _controls(dice: random.Random) -> list[Control]:
    controls: list[Control] = []
    if dice.random() < 0.2:
        controls = [Control(dice.uniform(0, 2), "pause"), Control(dice.uniform(0, 2), "resume")]
    return perhaps_cancelled(dice, controls, 0.1)


def _faults(
    dice: random.Random, servers: int, processes: tuple[str, ...], length_s: float
) -> list[Fault]:
    """Every process is killed or stopped, every server killed, and more of both by chance."""
    struck: list[tuple[Kind, int]] = [("kill nats", place) for place in range(servers)]
    struck += [(dice.choice(["kill", "stop"]), place) for place in range(len(processes))]
    kinds: list[Kind] = ["kill", "stop", "kill nats"]
    more = max(0, int(length_s / 2) - len(struck))
    struck += [
        (kind, dice.randrange(len(processes))) for kind in dice.choices(kinds, [5, 4, 1], k=more)
    ]
    return [
        Fault(dice.uniform(1, length_s), kind, victim, lasting_s(kind, dice))
        for kind, victim in struck
    ]
