"""The transfers that each caller has in flight, and its limits: a rate, a bound, and a fair share.

A caller is the holder of an API key or, without keys, the address that a connection comes from.
"""

import math
import time
from typing import Final

from wallet_engine.domain.errors import RateLimited

#: How long after its last small call a caller counts as present: it should not wait behind others' large
#: calls.
PRESENT_S: Final = 1.0
#: How long the list of present callers is cached.
LOOK_S: Final = 0.02
#: Maximum callers remembered; beyond it, those with nothing in flight are forgotten.
SHARES_MAX: Final = 10_000
#: An idle caller may use this many seconds of its rate at once.
BURST_S: Final = 1.0


class Share:
    """One caller's share. Times are by `time.perf_counter`."""

    __slots__ = ("_refilled_s", "_tokens", "in_flight", "in_flight_max", "present_s", "rate")

    def __init__(self, rate: float | None = None, in_flight_max: int | None = None) -> None:
        #: Transfers per second; None: unlimited.
        self.rate = rate
        self.in_flight_max = math.inf if in_flight_max is None else in_flight_max
        #: Requests begun and not answered; a batch counts its transfers.
        self.in_flight = 0
        #: When it last made a small call.
        self.present_s = -math.inf
        self._tokens = 0.0 if rate is None else max(1.0, rate * BURST_S)
        self._refilled_s = time.perf_counter()

    def __repr__(self) -> str:
        return f"<Share in_flight={self.in_flight}>"

    def spend(self, transfers: int) -> None:
        """Take transfers from its rate.

        A large batch may overdraw it; the next call waits. Raises `RateLimited`.
        """
        rate = self.rate
        if rate is None:
            return
        now_s = time.perf_counter()
        tokens = min(max(1.0, rate * BURST_S), self._tokens + (now_s - self._refilled_s) * rate)
        self._tokens, self._refilled_s = tokens, now_s
        if tokens < min(1.0, transfers):
            raise RateLimited(
                f"this key may make {rate:g} transfers a second",
                retry_after_s=math.ceil((1.0 - tokens) / rate),
            )
        self._tokens = tokens - transfers


class Shares:
    """The shares of all callers, by key or address."""

    def __init__(self) -> None:
        self._shares: dict[str, Share] = {}
        self._present: set[Share] = set()
        self._looked_s = -math.inf

    def __repr__(self) -> str:
        return f"<Shares {len(self._shares)}>"

    def of(self, caller: str, rate: float | None = None, in_flight_max: int | None = None) -> Share:
        """The share of the caller, with the present limits of its key."""
        share = self._shares.get(caller)
        if share is None:
            if len(self._shares) >= SHARES_MAX:
                self._shares = {name: each for name, each in self._shares.items() if each.in_flight}
            share = self._shares[caller] = Share(rate, in_flight_max)
        share.rate = rate
        share.in_flight_max = math.inf if in_flight_max is None else in_flight_max
        return share

    def others_present(self, mine: Share) -> bool:
        """Whether another caller has recently made a small call."""
        now_s = time.perf_counter()
        if now_s - self._looked_s > LOOK_S:
            self._looked_s = now_s
            since_s = now_s - PRESENT_S
            self._present = {share for share in self._shares.values() if share.present_s > since_s}
        return len(self._present) > (mine in self._present)
