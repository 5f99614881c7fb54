"""Whether one more task may come in: the bounds of what is open, and of what waits in the door.

Pure. Counted is what the last looks saw and what this controller took in since; it is right again
with the next look, whoever died.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from atlas.contracts.errors import OverloadedError

_OPEN_AGAIN_MS = 5_000
_WAITING_AGAIN_MS = 1_000


@dataclass(slots=True)
class Admission:
    """Counts tasks, and refuses what is too much."""

    most_open: int
    """Of a tenant."""
    most_waiting: int
    """Submissions of all tenants that no controller has accepted yet."""
    _open: Counter[str] = field(default_factory=Counter)
    _waiting: int = 0

    def saw_open(self, tenants: Iterable[str]) -> None:
        """The index of open tasks was read: the tenant of each."""
        self._open = Counter(tenants)

    def saw_waiting(self, submissions: int) -> None:
        """The submissions that wait were counted."""
        self._waiting = submissions

    def opened(self, tenant: str) -> None:
        """A task was accepted."""
        self._open[tenant] += 1

    def stored(self) -> None:
        """A submission was stored."""
        self._waiting += 1

    def check_door(self, tenant: str) -> None:
        """Whether a submission may be stored.

        Raises:
            OverloadedError: Says what there is too much of, and when to try again.
        """
        self.check_open(tenant)
        if self._waiting >= self.most_waiting:
            raise OverloadedError(
                f"{self._waiting} submissions wait to be accepted, and at most "
                f"{self.most_waiting} may (controller.limits.submissions); try again in a moment",
                retry_after_ms=_WAITING_AGAIN_MS,
            )

    def check_open(self, tenant: str) -> None:
        """Whether a tenant may have another open task.

        Raises:
            OverloadedError: It has as many as it may.
        """
        if self._open[tenant] >= self.most_open:
            raise OverloadedError(
                f"tenant {tenant!r} has {self._open[tenant]} open tasks, and at most "
                f"{self.most_open} may be open (controller.limits.open_tasks); try again when "
                "some are done, or cancel some",
                retry_after_ms=_OPEN_AGAIN_MS,
            )
