"""Which way to a plan a task takes: the caller's, a pattern, or a model's. Pure.

Making a plan with a model is a subtask like any other: `plan`, and `plan-repair` when its answer
was nonsense. When both are nonsense, or no model can be reached, the goal is still worked on, as
one subtask: a plan is a means. So is a change of a plan: `replan-1`, `replan-1-repair` and so on;
when nothing comes of it, the task goes on, or ends, with the plan that it has.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agent_controller.planning import fixed, model_change, model_plan, patterns, route
from agent_controller.planning.options import NoOptions, RouteOptions, read_options
from agent_controller.planning.patterns import MakePattern
from agent_controller.tasks.decide import AskModel, KeepPlan, MakePlan
from agent_controller.tasks.limits import Limits
from agent_controller.tasks.plan import Problem, invalid, most_together, plan_problems, problems_in
from agent_controller.tasks.records import SubtaskRecord
from agent_controller.tasks.replanning import Change
from agent_controller.tasks.schema import schema_problem
from agent_controller.tasks.view import (
    PLAN,
    PLAN_REPAIR,
    PLANNING,
    PLANNING_IDS,
    REPLANNING_IDS,
    RESERVED_IDS,
    TaskView,
)
from atlas.contracts.errors import InvalidRequestError
from atlas.contracts.events import Offer
from atlas.contracts.inference import Level, Requirements
from atlas.contracts.tasks import (
    Approval,
    OnFailure,
    Pattern,
    PlannedSubtask,
    SubtaskState,
    TaskRequest,
)
from atlas.spelling import nearest

_ASKED = (Pattern.AUTO.value, Pattern.ROUTE.value)
"""The patterns for which a model is asked."""
_LONGEST_REASON = 1_000
"""Characters of why a plan could not be changed: they stand in the task's end."""


def check_request(
    request: TaskRequest, known: Mapping[str, MakePattern] = patterns.PATTERNS
) -> None:
    """Refuse what can never be planned, before it is accepted.

    Raises:
        InvalidRequestError: Names each problem: a blank goal, a pattern that this version does not
            know or that cannot work with what it was given, and whatever is wrong with the
            caller's plan.
    """
    problems: list[Problem] = []
    if not request.goal.strip():
        problems.append(Problem("goal", "it is blank; say what is to be reached"))
    if request.plan is None and request.pattern not in {*_ASKED, *known}:
        raise _unsupported(request.pattern, known, problems)
    problems += [*_no_plans(request, known), *_no_expiry(request)]
    if problems:
        raise invalid("TaskRequest", problems)


def _no_plans(request: TaskRequest, known: Mapping[str, MakePattern]) -> Iterator[Problem]:
    if request.plan is not None:
        reserved = RESERVED_IDS if request.max_replans else ()
        yield from plan_problems(request.plan, reserved=reserved, inputs=request.inputs or {})
        yield from _no_schemas(request.plan)
        if request.pattern_options is not None:
            yield Problem("pattern_options", "a plan of one's own takes none; remove them")
        yield from _no_quorum(request, request.plan)
        return
    plan: Sequence[PlannedSubtask] = ()
    try:
        if (make := known.get(request.pattern)) is not None:
            plan = patterns.make_plan(make, request)
        else:
            read_options(request, RouteOptions if request.pattern == Pattern.ROUTE else NoOptions)
    except InvalidRequestError as error:
        yield from problems_in(error)
    yield from _no_quorum(request, plan)


def _no_quorum(request: TaskRequest, plan: Sequence[PlannedSubtask]) -> Iterator[Problem]:
    """What is wrong with the task's own quorum; a plan that a model will make is not there yet."""
    if request.on_failure is not OnFailure.QUORUM:
        if request.quorum is not None:
            yield Problem("quorum", "it goes with `on_failure: quorum`; give both, or neither")
        return
    if request.quorum is None:
        yield Problem("quorum", "`on_failure: quorum` needs it: how many must succeed")
    elif plan and request.quorum > (most := most_together(plan)):
        yield Problem(
            "quorum",
            f"{request.quorum}, and no subtask depends on more than {most} others; give no more",
        )


def _no_expiry(request: TaskRequest) -> Iterator[Problem]:
    """What is wrong with how an approval expires."""
    if request.approval_expires_ms is not None and request.approval is Approval.NONE:
        yield Problem("approval_expires_ms", "nothing waits for one; give `approval` too")
    if request.on_approval_expired is not None and request.approval_expires_ms is None:
        yield Problem("on_approval_expired", "it never expires; give `approval_expires_ms` too")


def _no_schemas(plan: Sequence[PlannedSubtask]) -> Iterator[Problem]:
    for index, node in enumerate(plan):
        if node.output_schema is None:
            continue
        if (problem := schema_problem(node.output_schema)) is not None:
            yield Problem(f"plan[{index}].output_schema", problem)


def _unsupported(
    pattern: str, known: Mapping[str, MakePattern], others: Sequence[Problem] = ()
) -> InvalidRequestError:
    supported = [*_ASKED, *known]
    near = nearest(pattern, supported)
    problem = Problem(
        "pattern",
        f"{pattern} is not available in this version; "
        + (f"did you mean {near!r}? There are " if near else "use one of ")
        + f"{', '.join(supported)}; or give a plan of your own",
    )
    return invalid("TaskRequest", [*others, problem], supported=supported)


@dataclass(frozen=True, slots=True)
class TaskPlanner:
    """The planner of this service; see `agent_controller.tasks.decide.Planner`."""

    limits: Limits
    requirements: Requirements | None = None
    """What a model must be able to do to plan."""
    announced: Callable[[], Mapping[str, Offer]] = dict
    """What workers say now that they can do, beside what is built in."""
    known: Mapping[str, MakePattern] = field(default_factory=lambda: patterns.PATTERNS)
    """The patterns by their names."""

    def check(self, request: TaskRequest) -> None:
        """Refuse what can never be planned; see `check_request`."""
        check_request(request, self.known)

    def next_step(self, view: TaskView) -> MakePlan | AskModel | None:
        """What to do while there is no plan; None: wait for the planning subtask that runs.

        Raises:
            InvalidRequestError: The pattern is unknown to this version.
        """
        request = view.request
        if request is None:
            return None
        if request.plan is not None:
            return MakePlan(tuple(request.plan), "caller")
        if (make := self.known.get(request.pattern)) is not None:
            return MakePlan(patterns.make_plan(make, request), "pattern")
        if request.pattern not in _ASKED:
            raise _unsupported(request.pattern, self.known)
        return self._ask(view, request)

    def assignment(self, view: TaskView, subtask_id: str) -> PlannedSubtask:
        """What the subtask `plan` or `plan-repair` has to do."""
        if subtask_id not in PLANNING_IDS:
            return self._change_assignment(view, subtask_id)
        request = view.request
        if request is not None and request.pattern == Pattern.ROUTE:
            instruction, schema = route.question(request), route.schema(request)
        else:
            instruction, schema = (
                model_plan.rules(self._offered),
                model_plan.plan_schema(self._offered),
            )
        if subtask_id == PLAN_REPAIR and (first := view.subtasks.get(PLAN)) is not None:
            problems = self._problems(first, request)
            instruction = model_plan.repair(instruction, first.output, problems)
        return PlannedSubtask(
            id=subtask_id,
            capability=PLANNING,
            instruction=instruction,
            output_schema=schema,
            requirements=self.requirements,
        )

    def next_change(self, view: TaskView) -> Change | AskModel | KeepPlan | None:
        """What to do where the plan must change; None: wait for the subtask that asks a model.

        What the model answers is read for the task as it stands now. A change that cannot be made,
        also when the model was told what is wrong with it, leaves the plan as it is, for good.
        """
        first, again = REPLANNING_IDS[view.replans]
        subtask_id = again if again in view.subtasks else first
        record = view.subtasks.get(subtask_id)
        if record is None:
            return AskModel(first)
        if not record.state.is_terminal:
            return None
        if record.state is not SubtaskState.SUCCEEDED:
            why = record.error.message if record.error else f"it is {record.state}"
            return KeepPlan(f"the subtask {subtask_id!r} gave no change: {why}")
        try:
            return model_change.read_change(view, record.output, self._offered)
        except InvalidRequestError as error:
            if subtask_id == first:
                return AskModel(again)
            problems = "; ".join(model_plan.problems_of(error))[:_LONGEST_REASON]
            return KeepPlan(f"the model's change was refused twice, at last for: {problems}")

    def _change_assignment(self, view: TaskView, subtask_id: str) -> PlannedSubtask:
        """What a subtask has to do that asks a model for a change of the plan."""
        instruction = model_change.rules(view, self._offered)
        first, again = REPLANNING_IDS[view.replans]
        if subtask_id == again and (answer := view.subtasks.get(first)) is not None:
            problems: list[str] = []
            try:
                model_change.read_change(view, answer.output, self._offered)
            except InvalidRequestError as error:
                problems = model_plan.problems_of(error)
            instruction = model_plan.repair(instruction, answer.output, problems)
        return PlannedSubtask(
            id=subtask_id,
            capability=PLANNING,
            instruction=instruction,
            output_schema=model_change.change_schema(view, self._offered),
            requirements=self.requirements,
            inputs={model_change.PROGRESS: model_change.progress(view)},
        )

    @property
    def _offered(self) -> Limits:
        """The limits of a plan that a model makes now."""
        offers = self.announced()
        return replace(
            self.limits,
            capabilities=self.limits.capabilities | offers.keys(),
            described={name: said for name, offer in offers.items() if (said := _said(offer))},
        )

    def _ask(self, view: TaskView, request: TaskRequest) -> MakePlan | AskModel | None:
        for subtask_id in (PLAN, PLAN_REPAIR):
            record = view.subtasks.get(subtask_id)
            if record is None:
                return AskModel(subtask_id)
            if not record.state.is_terminal:
                return None
            if record.state is not SubtaskState.SUCCEEDED:
                why = record.error.message if record.error else f"it is {record.state}"
                return _last_resort(f"the subtask {subtask_id!r} gave no plan: {why}")
            try:
                return self._read(record, request)
            except InvalidRequestError as error:
                problems = model_plan.problems_of(error)
        return _last_resort(
            f"the model's plan was refused twice, at last for: {'; '.join(problems)}"
        )

    def _read(self, record: SubtaskRecord, request: TaskRequest | None) -> MakePlan:
        if request is not None and request.pattern == Pattern.ROUTE:
            node, reason = route.read_choice(record.output, request)
            return MakePlan((node,), "model", reason)
        return MakePlan(model_plan.read_plan(record.output, self._offered), "model")

    def _problems(self, record: SubtaskRecord, request: TaskRequest | None) -> list[str]:
        try:
            self._read(record, request)
        except InvalidRequestError as error:
            return model_plan.problems_of(error)
        return []


def _said(offer: Offer) -> str:
    """An offer in words; nothing where it is an ordinary one."""
    level = "" if offer.level is Level.MODERATE else offer.level.value
    return "; ".join(filter(None, [level, offer.description]))


def _last_resort(reason: str) -> MakePlan:
    return MakePlan((fixed.whole_goal(),), "last_resort", reason)
