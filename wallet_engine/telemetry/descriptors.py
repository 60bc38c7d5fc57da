"""File descriptors: raises the limit, and keeps some for the process's own files and connections.

Clients' connections must not take the last descriptors: a journal that cannot open its next segment stops, and a
service that cannot connect to a new primary makes no payments.
"""

import resource
import time
from typing import Final

from wallet_engine.domain.errors import ConfigError
from wallet_engine.telemetry.logging import get_logger

#: Descriptors that a process needs to start, with one shard and one journal copy.
DESCRIPTORS_MIN: Final = 48
#: The limit is not raised further: some programs loop over all descriptors up to the limit.
DESCRIPTORS_MAX: Final = 1 << 20
#: Descriptors kept for own files and connections; when the limit is low, this part of it: 1 / RESERVED_PART.
RESERVED_MAX: Final = 64
RESERVED_PART: Final = 4
#: Minimum time between log lines about refused connections.
SAY_S_MIN: Final = 10.0

log = get_logger(__name__)


def raise_limit() -> None:
    """Raise the soft limit to the hard limit. Raises `ConfigError` when that is too low to start."""
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
    """Whether this is one of the last descriptors that the process may have."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit != resource.RLIM_INFINITY and descriptor >= limit - min(RESERVED_MAX, limit // RESERVED_PART)


class Reserve:
    """Decides for each client connection whether the process has descriptors enough for it."""

    def __init__(self) -> None:
        self._said_s = 0.0

    def refuses(self, descriptor: int) -> bool:
        """Whether to close the connection with this descriptor; logs that.

        The kernel gives the lowest free descriptor, so a high one means that all below it are in use. The limit is read
        each time: it can be changed from outside.
        """
        if not is_reserved(descriptor):
            return False
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        now_s = time.monotonic()
        if now_s - self._said_s > SAY_S_MIN:
            self._said_s = now_s
            log.error("few file descriptors are left: new connections are refused", limit=limit)
        return True
