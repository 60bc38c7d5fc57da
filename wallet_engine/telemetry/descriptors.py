"""File descriptors: as many as the system gives, and some kept for this process' own needs.

Connections of others must not take the last ones: a journal that cannot open its next segment stops, and a service
that cannot connect to a new primary pays nothing.
"""

import resource
import time
from typing import Final

from wallet_engine.domain.errors import ConfigError
from wallet_engine.telemetry.logging import get_logger

#: What a process needs to begin at all, with one shard and one journal copy.
DESCRIPTORS_MIN: Final = 48
#: More are never asked for: there are programs that look at each of them.
DESCRIPTORS_MAX: Final = 1 << 20
#: Kept for own files and connections; of a low limit a part.
RESERVED_MAX: Final = 64
RESERVED_PART: Final = 4
#: How often it is said that connections are refused.
SAY_S_MIN: Final = 10.0

log = get_logger(__name__)


def raise_limit() -> None:
    """Take as many as the system allows. Raises `ConfigError` when that is too few to begin with."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_MAX)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < DESCRIPTORS_MIN:
        raise ConfigError(
            f"only {allowed} file descriptors are allowed, {DESCRIPTORS_MIN} are needed and thousands are better: "
            f"raise the limit (ulimit -n, or LimitNOFILE of the service)"
        )


def is_reserved(descriptor: int) -> bool:
    """Whether it is one of the last that the process may have."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit != resource.RLIM_INFINITY and descriptor >= limit - min(RESERVED_MAX, limit // RESERVED_PART)


class Reserve:
    """Says of each connection of others whether the process can afford it."""

    def __init__(self) -> None:
        self._said_s = 0.0

    def refuses(self, descriptor: int) -> bool:
        """Whether to close the connection that has this descriptor. The lowest that is free is given out, so a high
        one says that those below are taken. The limit is looked at each time: it can be changed from outside.
        """
        if not is_reserved(descriptor):
            return False
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        now_s = time.monotonic()
        if now_s - self._said_s > SAY_S_MIN:
            self._said_s = now_s
            log.error("few file descriptors are left: new connections are refused", limit=limit)
        return True
