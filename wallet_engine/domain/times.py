"""Times as people and other programs read them."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=1024)
def time_text(time_ms: int) -> str:
    """Unix milliseconds in RFC 3339, in UTC with milliseconds. Raises `OverflowError` beyond the year 9999."""
    instant = _EPOCH + timedelta(milliseconds=time_ms)
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")
