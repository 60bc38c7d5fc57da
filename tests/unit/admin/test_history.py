"""The times that `--at` accepts."""

import pytest

from wallet_engine.admin.proof.past_balance import AtSeq, AtTime, parse_at
from wallet_engine.domain.errors import ConfigError
from wallet_engine.domain.times import time_text

TEN_MS = 1_795_255_200_000  # 2026-11-21T10:00:00Z


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("0", AtSeq(0)),
        ("120", AtSeq(120)),
        ("20261121", AtSeq(20261121)),
        ("2026-11-21T10:00:00Z", AtTime(TEN_MS)),
        ("2026-11-21t10:00:00z", AtTime(TEN_MS)),
        ("2026-11-21 10:00:00", AtTime(TEN_MS)),
        ("2026-11-21T10:00", AtTime(TEN_MS)),
        ("2026-11-21T11:00:00+01:00", AtTime(TEN_MS)),
        ("2026-11-21T04:30:00-05:30", AtTime(TEN_MS)),
        ("2026-11-21T10:00:00.25Z", AtTime(TEN_MS + 250)),
        ("2026-11-21T10:00:00.123456789Z", AtTime(TEN_MS + 123)),
        ("2026-11-21", AtTime(TEN_MS - 10 * 3600 * 1000)),
        ("1969-12-31T23:59:59.999Z", AtTime(-1)),
    ],
)
def test_seq_or_instant(text: str, meant: AtSeq | AtTime) -> None:
    assert parse_at(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        *("", "-1", "+1", "1.5", "1e3", "٣", "12345678901234567", "now", "yesterday"),
        *("2026-13-01", "2026-02-30", "2026-11-21T25:00", "2026-11-21T10", "2026-W47-6", "2026-11-21T10:00Q"),
        *("2026-11-21T10:00:00 Z", " 2026-11-21", "2026-11-21T10:00:00+99:00", "0001-01-01T00:00+23:59"),
    ],
)
def test_neither(text: str) -> None:
    with pytest.raises(ConfigError, match="2026-11-21T10:00:00Z"):
        parse_at(text)


@pytest.mark.parametrize(
    ("time_ms", "text"), [(TEN_MS + 7, "2026-11-21T10:00:00.007Z"), (-1, "1969-12-31T23:59:59.999Z")]
)
def test_an_instant_is_shown_in_utc(time_ms: int, text: str) -> None:
    assert time_text(time_ms) == text
