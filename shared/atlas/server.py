"""The NATS server that Atlas needs: its version, and that JetStream is on and answers."""

import re

from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.errors import APIError, NoStreamResponseError, ServiceUnavailableError

from atlas.bus import Bus
from atlas.contracts.errors import ConnectionFailedError, TopologyError

OLDEST_SERVER = (2, 12, 0)
"""Message TTL, schedules, counters and atomic batches came with nats-server 2.12."""

_NO_LEADER = 10008  # JSClusterNotAvailErr


async def check_server(bus: Bus) -> None:
    """Check the server's version and that JetStream is on.

    Raises:
        TopologyError: Says what is wrong and how to start a server that fits.
        ConnectionFailedError: The server says nothing to this user.
    """
    version = bus.nats.connected_server_version
    found = (version.major, version.minor, version.patch)
    if found < OLDEST_SERVER:
        is_, needed = (".".join(map(str, one)) for one in (found, OLDEST_SERVER))
        raise TopologyError(
            f"the NATS server is {is_}, and Atlas needs {needed} or newer; "
            "upgrade it (the image nats:2-alpine is new enough)"
        )
    try:
        await bus.jetstream.account_info()
    except (ServiceUnavailableError, NoStreamResponseError) as error:
        if isinstance(error, ServiceUnavailableError) and error.err_code == _NO_LEADER:
            raise TopologyError(
                "JetStream has no leader now: most servers of the cluster must be up and see each "
                "other; start those that are missing, or wait until they have voted"
            ) from error
        raise TopologyError(
            "JetStream is off on this NATS server; start it with `-js` "
            "(or `jetstream {}` in its configuration). Where it was on, the server's log says why "
            "it was switched off: mostly a full disk"
        ) from error
    except APIError as error:
        raise TopologyError(f"JetStream does not answer: {error.description}") from error
    except NatsTimeoutError as error:
        raise ConnectionFailedError(
            "JetStream does not answer. Where the server refuses this user (the line "
            "`nats_refused` says so), connect as one that may ask: the role `operator` of "
            "`atlas access`; else look at the server's log"
        ) from error


def version_of(text: str) -> tuple[int, ...]:
    """The numbers in `nats-server: v2.15.0` or the like."""
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", text)
    return tuple(int(part) for part in found.groups()) if found else ()
