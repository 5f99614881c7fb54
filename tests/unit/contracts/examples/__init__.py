"""One fully populated value of every public contract model: what the golden files are made of.

The key is the golden's name: the model's, and behind a dot a variant where fields exclude each
other.
"""

from atlas.contracts.base import Contract

from .catalogue import CATALOGUE
from .errors_and_events import ERRORS_AND_EVENTS
from .inference import INFERENCE
from .streams import STREAMS
from .tasks import TASKS
from .work import WORK

EXAMPLES: dict[str, Contract] = CATALOGUE | ERRORS_AND_EVENTS | INFERENCE | STREAMS | TASKS | WORK
