"""Refusals on the journal's port: each is counted, and each reason is logged at most once a minute."""

import time
from collections.abc import Callable
from typing import Any, Final

from wallet_engine.domain.errors import WalletError
from wallet_engine.telemetry.logging import get_logger

#: Minimum time between two log lines with the same reason.
SAY_S_MIN: Final = 60.0
#: Maximum length of logged text from a peer.
TEXT_LENGTH_MAX: Final = 200

log = get_logger(__name__)


class Refused(WalletError):
    """A question is refused because of its content or its sender. `reason` is counted."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Refusals:
    """`count(reason)` is called for each refusal. Reasons are few, and never come from a peer's text."""

    def __init__(self, count: Callable[[str], None] = lambda reason: None) -> None:
        self._count = count
        self.totals: dict[str, int] = {}
        self._said: dict[str, tuple[float, int]] = {}

    def __repr__(self) -> str:
        return f"<Refusals {self.totals}>"

    def note(self, reason: str, **details: Any) -> None:
        total = self.totals[reason] = self.totals.get(reason, 0) + 1
        self._count(reason)
        now_s = time.monotonic()
        said_s, before = self._said.get(reason, (0.0, 0))
        if before and now_s - said_s < SAY_S_MIN:
            return
        self._said[reason] = now_s, total
        shown = {name: str(value)[:TEXT_LENGTH_MAX] for name, value in details.items()}
        log.warning("refused on the journal's port", reason=reason, times=total - before, **shown)
