"""RFC 3339 in UTC with milliseconds."""

import pytest

from wallet_engine.domain.times import time_text


@pytest.mark.parametrize(
    ("time_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_795_255_200_999, "2026-11-21T10:00:00.999Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (-62_135_596_800_000, "0001-01-01T00:00:00.000Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_a_time_has_all_its_digits(time_ms: int, text: str) -> None:
    assert time_text(time_ms) == text


def test_there_is_no_year_10000() -> None:
    with pytest.raises(OverflowError):
        time_text(253_402_300_800_000)
