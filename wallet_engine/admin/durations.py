"""Durations as operators write them."""

import re
from typing import Final

from wallet_engine.domain.errors import WrongUsage

_UNITS_MS: Final = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_duration_match = re.compile(r"([0-9]{1,9})([smhd])\Z").match


#: A later time may be none that a date has.
_YEARS_MAX: Final = 100
_DURATION_MS_MAX: Final = _YEARS_MAX * 365 * _UNITS_MS["d"]


def duration_ms(text: str, what: str) -> int:
    """Milliseconds of `90d`, `12h`, `15m` or `30s`. Raises `WrongUsage` that names `what`."""
    match = _duration_match(text)
    if match is None:
        raise WrongUsage(f"{what} {text[:40]!r} is no duration such as 90d, 12h, 15m or 30s")
    duration = int(match[1]) * _UNITS_MS[match[2]]
    if duration > _DURATION_MS_MAX:
        raise WrongUsage(f"{what} {text} is longer than {_YEARS_MAX} years")
    return duration
