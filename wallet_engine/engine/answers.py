"""When callers get their answers: behind the wave that leaves with the same news.

A message of the journal brings both: debits that are durable, whose credits Redis waits for, and transfers that have
ended, whose callers wait. An answer is a system call of its own; Redis works while they are written.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from wallet_engine.telemetry.logging import get_logger

log: Final = get_logger(__name__)


class Answers:
    """Those not given yet. Create and use it on one event loop."""

    __slots__ = ("_loop", "_waiting")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<Answers waiting={len(self._waiting)}>"

    def add(self, answer: Callable[[], None]) -> None:
        """Give it in the turn after the next: a wave that is called for in this one leaves in the next."""
        if not self._waiting:
            self._loop.call_soon(self._loop.call_soon, self.give)
        self._waiting.append(answer)

    def give(self) -> None:
        """Give all of them now."""
        waiting, self._waiting = self._waiting, []
        for answer in waiting:
            try:
                answer()
            except Exception:  # a bug in one must not leave the others waiting
                log.exception("an answer was not given")
