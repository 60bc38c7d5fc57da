"""Waits until the result of a change is visible."""

import time
from collections.abc import Callable
from typing import Final

from wallet_engine.domain.errors import ConfigError

_POLL_S: Final = 0.1


def wait_until(seen: Callable[[], bool], what: str, timeout_s: float) -> None:
    """Return when `seen()` is true. After `timeout_s`, raises `ConfigError` with a text that begins with `what`."""
    deadline = time.monotonic() + timeout_s
    while not seen():
        if time.monotonic() > deadline:
            raise ConfigError(
                f"{what}: not seen within {timeout_s:.0f} s; wallet-admin doctor says what is wrong"
            )
        time.sleep(_POLL_S)
