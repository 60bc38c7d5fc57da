"""Visits that log a line per request, which costs too much to be on by default."""

import time
from typing import Final

from wallet_engine.http.gate import Visit
from wallet_engine.telemetry.logging import get_logger

_log: Final = get_logger(__name__)


class LoggedVisit(Visit):
    """Logs the answer to its request."""

    __slots__ = ()

    def leave(self, status: int) -> None:
        super().leave(status)
        _log.debug(
            "request answered",
            request_id=self.request_id,
            route=self._entrance.template,
            status=status,
            key=self.principal.id or None,
            duration_ms=round((time.perf_counter() - self.began_s) * 1000, 3),
        )
