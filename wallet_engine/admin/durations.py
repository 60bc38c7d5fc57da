"""Durations as operators write them."""

import re
from typing import Final

from wallet_engine.domain.errors import WrongUsage

_UNITS_MS: Final = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_duration_match = re.compile(r"([0-9]{1,9})([smhd])\Z").match


def duration_ms(text: str, what: str) -> int:
    """Milliseconds of `90d`, `12h`, `15m` or `30s`. Raises `WrongUsage` that names `what`."""
    match = _duration_match(text)
    if match is None:
        raise WrongUsage(f"{what} {text[:40]!r} is no duration such as 90d, 12h, 15m or 30s")
    return int(match[1]) * _UNITS_MS[match[2]]
