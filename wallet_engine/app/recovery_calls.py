"""Requests of services to check a shard, merged: many may come at once, and each check interrupts the drain."""

import asyncio
from collections.abc import Callable
from typing import Final

from wallet_engine.telemetry.logging import get_logger

#: Least time between two checks of one shard, for all callers together.
LOOK_S_MIN: Final = 0.25

log = get_logger(__name__)


class RecoveryCalls:
    """Calls `look(shard)` for requests; requests within `LOOK_S_MIN` share one call."""

    def __init__(self, look: Callable[[str], None]) -> None:
        self._look = look
        self._looked_s: dict[str, float] = {}
        self._planned: set[str] = set()

    def __repr__(self) -> str:
        return f"<RecoveryCalls planned={sorted(self._planned)}>"

    def take(self, shard: str, reason: str) -> None:
        if shard in self._planned:
            return
        loop = asyncio.get_running_loop()
        since_s = loop.time() - self._looked_s.get(shard, -LOOK_S_MIN)
        log.warning("recovery asked for", shard=shard, reason=reason)
        if since_s >= LOOK_S_MIN:
            self._now(shard)
        else:
            self._planned.add(shard)
            loop.call_later(LOOK_S_MIN - since_s, self._now, shard)

    def _now(self, shard: str) -> None:
        self._planned.discard(shard)
        self._looked_s[shard] = asyncio.get_running_loop().time()
        self._look(shard)
