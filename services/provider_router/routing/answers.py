"""Whether answers were of use, as those say who asked. No I/O.

An attempt that ends well is a success for figures and circuits: its provider did what it was asked.
That its answer broke the schema, was empty or was a refusal only the caller can tell. What is told
counts:

- **for who told it only**: shares are kept by tenant, so nobody can spoil a model for others;
- **for its kind of work only**: a model that is bad at JSON may be good at prose;
- **once for a stream, and only in the router that made it**, which knows the model itself. So each
  router compares faults with answers of its own, and one that was told nothing remembers nothing;
- **as long as it is fresh**: half as much after ten minutes. That is how a model that was blamed is
  tried again.

Everything is bounded: the last streams, and the pairs of asker and model that were used last.
"""

from dataclasses import dataclass, field

from provider_router.routing.figures import Average

_HALF_LIFE_MS = 600_000
"""Longer than figures remember: a lack of skill lasts longer than an outage."""
_PRIOR_WEIGHT = 4.0
"""So many good answers are taken for granted: one slip does not send a tenant elsewhere."""
_MOST_STREAMS = 20_000
_MOST_SHARES = 4_096


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, and for which kind of answer."""

    tenant: str
    wants_json: bool = False


type _Pair = tuple[Asker, str]
"""Who asks, and the model (`provider/name`) that answers."""

ANYBODY = Asker("")
"""Of whom nothing is known."""


@dataclass(frozen=True, slots=True)
class _Share:
    """Which part of a model's answers was of use."""

    useful: Average
    at_ms: int

    def at(self, now_ms: int) -> "_Share":
        kept = 0.5 ** (max(0, now_ms - self.at_ms) / _HALF_LIFE_MS)
        return _Share(self.useful.faded(kept), now_ms)

    def answered(self, now_ms: int) -> "_Share":
        return _Share(self.at(now_ms).useful.after(1.0), now_ms)

    def blamed(self, now_ms: int) -> "_Share":
        """One of the answers that were counted was of no use."""
        useful = self.at(now_ms).useful
        return _Share(Average(max(0.0, useful.total - 1.0), useful.weight), now_ms)


@dataclass(slots=True)
class Answers:
    """The answers that this router's providers gave."""

    _given: dict[str, _Pair] = field(default_factory=dict)
    """By `tenant.stream` who asked, and the model that answered. Those blamed are forgotten."""
    _shares: dict[_Pair, tuple[_Pair, _Share]] = field(default_factory=dict)
    """In the order of their last use; each with its key, so that streams share one."""

    def gave(self, asker: Asker, stream_id: str, model: str, now_ms: int) -> None:
        """A model's answer to a stream is whole; counted as of use until somebody says otherwise.

        `model` is `provider/name`.
        """
        pair, share = self._shares.get((asker, model)) or (
            (asker, model),
            _Share(Average(), now_ms),
        )
        _newest(self._given, f"{asker.tenant}.{stream_id}", pair, _MOST_STREAMS)
        _newest(self._shares, pair, (pair, share.answered(now_ms)), _MOST_SHARES)

    def blame(self, tenant: str, stream_id: str, now_ms: int) -> str | None:
        """A stream's answer was of no use: gives its model; None when it is not known here."""
        pair = self._given.pop(f"{tenant}.{stream_id}", None)
        if pair is None:
            return None
        if (known := self._shares.get(pair)) is not None:
            self._shares[pair] = (pair, known[1].blamed(now_ms))
        return pair[1]

    def share(self, asker: Asker, model: str, now_ms: int) -> float:
        """The share of a model's answers that are expected to be of use: 1 until told otherwise."""
        known = self._shares.get((asker, model))
        if known is None:
            return 1.0
        useful = known[1].at(now_ms).useful
        return (useful.total + _PRIOR_WEIGHT) / (useful.weight + _PRIOR_WEIGHT)


def _newest[K, V](entries: dict[K, V], key: K, value: V, most: int) -> None:
    """Put an entry last; the first leaves for it where there are too many."""
    entries.pop(key, None)
    entries[key] = value
    if len(entries) > most:
        del entries[next(iter(entries))]
