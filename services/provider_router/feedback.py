"""`api.stream.feedback`: somebody says that an answer was of no use; its router takes note.

Any router takes the call, checks it against history and tells all of them, by an event; the one
that made the answer counts it (`routing.answers`). One that is dead by now has forgotten its
figures too.
"""

from dataclasses import dataclass

import structlog
from nats.aio.msg import Msg
from pydantic import ValidationError

from atlas import subjects
from atlas.bus import Bus
from atlas.contracts.base import JsonObject, now_ms
from atlas.contracts.errors import InvalidTransitionError, NotFoundError
from atlas.contracts.events import Event
from atlas.contracts.streams import FeedbackTaken, StreamFeedback
from atlas.service import Call, Doors, Events
from provider_router.routing.answers import Answers
from provider_router.streaming.store import StreamAddress, StreamStore

_TYPE = "stream.feedback"

log = structlog.get_logger("atlas.feedback")


@dataclass(frozen=True, slots=True)
class Feedback:
    """Takes what is said of answers, and hears what other routers took."""

    bus: Bus
    store: StreamStore
    events: Events
    answers: Answers

    async def open(self, doors: Doors) -> None:
        """Hear the other routers, and open the door."""
        await self.bus.subscribe(subjects.events_of("*", "provider_router", _TYPE), self._hear)
        await doors.open("feedback", subjects.API_STREAM_FEEDBACK_ALL, StreamFeedback, self.take)

    async def take(self, call: Call[StreamFeedback]) -> FeedbackTaken:
        """Tell every router.

        Raises:
            NotFoundError: The tenant has no such stream.
            InvalidTransitionError: It is not completed: what failed counts already.
        """
        said = call.body
        reading = await self.store.reading(StreamAddress(call.tenant, said.stream_id))
        if not reading.seq:
            raise NotFoundError(
                f"no stream {said.stream_id!r} of tenant {call.tenant!r}; its history "
                "may be older than the replay window"
            )
        answer = reading.response(said.stream_id)
        if answer is None:
            raise InvalidTransitionError(
                f"stream {said.stream_id!r} is {reading.state}; say it of a completed one, as one "
                "that fails counts by itself"
            )
        data: JsonObject = {"model": answer.model, **said.model_dump(exclude_none=True)}
        await self.events.emit(_TYPE, data, tenant=call.tenant)
        return FeedbackTaken(stream_id=said.stream_id, model=answer.model)

    async def _hear(self, msg: Msg) -> None:
        try:
            event = Event.from_json(msg.data)
            said = StreamFeedback.model_validate(
                {"stream_id": event.data.get("stream_id"), "fault": event.data.get("fault")}
            )
        except ValidationError:
            log.debug("no_feedback", subject=msg.subject)  # anyone may publish there
            return
        model = self.answers.blame(subjects.parse(msg.subject).tenant, said.stream_id, now_ms())
        if model is not None:
            log.info("answer_blamed", stream=said.stream_id, model=model, fault=said.fault)
