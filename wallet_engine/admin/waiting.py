"""Waiting until the result of a change is seen, not only ordered."""

import time
from collections.abc import Callable
from typing import Final

from wallet_engine.domain.errors import ConfigError

_POLL_S: Final = 0.1


def wait_until(seen: Callable[[], bool], what: str, timeout_s: float) -> None:
    """Return when `seen()` is true. Raises `ConfigError` that begins with `what` when it is not in time."""
    deadline = time.monotonic() + timeout_s
    while not seen():
        if time.monotonic() > deadline:
            raise ConfigError(
                f"{what}: not seen within {timeout_s:.0f} s; wallet-admin doctor says what is wrong"
            )
        time.sleep(_POLL_S)
