"""Reports certificates of callers of a journal copy that expire soon; `doctor` cannot see those itself."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

from wallet_engine.app.troubles import Tell

POLL_S: Final = 60.0
#: The same as in `doctor` for the certificates of servers.
ENDS_S_WARN: Final = 30 * 86_400.0
CALLERS_NAMED_MAX: Final = 10


class CallersWatch:
    """For one journal process. `ending(before_s)`: caller -> when its certificate ends, if that is before (Unix s)."""

    def __init__(
        self,
        ending: Callable[[float], Mapping[str, float]],
        tell: Tell,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._ending = ending
        self._tell = tell
        self._now_s = now_s

    async def run(self) -> None:
        """Look regularly, until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(POLL_S)

    def look(self) -> None:
        """Look once and report. The text changes only when the certificates do."""
        found = sorted(self._ending(self._now_s() + ENDS_S_WARN).items())[:CALLERS_NAMED_MAX]
        named = ", ".join(
            f"{caller} on {time.strftime('%Y-%m-%d', time.gmtime(ends_s))}" for caller, ends_s in found
        )
        self._tell(f"certificates of callers end: {named}" if named else "")
