"""Collects failures in a process beside payments, with their start, to show to operators."""

import asyncio
import time
from collections.abc import Callable

from wallet_engine.routing.model import Trouble

#: Called with the text of a failure, or with "" when all is well.
Tell = Callable[[str], None]


class Troubles:
    """Collects the failures of several workers. Create and use it on one event loop."""

    def __init__(self) -> None:
        self._of: dict[str, Trouble] = {}
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Troubles {sorted(self._of)}>"

    def teller(self, worker: str) -> Tell:
        """The `Tell` of one worker. The time of a trouble is that of the first of its failures in a row."""

        def tell(what: str) -> None:
            known = self._of.get(worker)
            if what == ("" if known is None else known.what):
                return
            if what:
                since_ms = time.time_ns() // 1_000_000 if known is None else known.since_ms
                self._of[worker] = Trouble(what, since_ms)
            else:
                del self._of[worker]
            self._changed.set()

        return tell

    def now(self) -> tuple[Trouble, ...]:
        return tuple(self._of[worker] for worker in sorted(self._of))

    async def changed(self) -> None:
        """Wait for the next change since the last call."""
        await self._changed.wait()
        self._changed.clear()
