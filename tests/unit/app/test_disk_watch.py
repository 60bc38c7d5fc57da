"""When a disk that fills is reported."""

from pathlib import Path

import pytest

from wallet_engine.app.disk_watch import RATE_S_MIN, DiskWatch

GB = 10**9


@pytest.mark.parametrize(
    ("looks", "told"),
    [
        ([(0, 100 * GB)], ""),
        ([(0, 100 * GB), (RATE_S_MIN - 1, 1 * GB)], ""),  # too short for a rate
        ([(0, 100 * GB), (3600, 100 * GB)], ""),
        ([(0, 100 * GB), (3600, 101 * GB)], ""),
        ([(0, 100 * GB), (3600, 99 * GB)], ""),  # 99 hours
        (
            [(0, 100 * GB), (3600, 90 * GB)],
            "disk: 90.0 GB are free, which last 9.0 h at the rate of the last 1.0 h",
        ),
        ([(0, 100 * GB), (3600, 90 * GB), (7200, 100 * GB)], ""),  # files were deleted
        # Readings older than a day do not count.
        ([(0, 1000 * GB), (3600, 100 * GB), (90_000, 99 * GB)], ""),
    ],
)
def test_a_disk_that_fills_within_a_day(looks: list[tuple[float, int]], told: str) -> None:
    said: list[str] = []
    now: list[tuple[float, int]] = []
    watch = DiskWatch(Path("/j"), said.append, lambda path: now[-1][1], lambda: now[-1][0])
    for look in looks:
        now.append(look)
        watch.look()
    assert said[-1] == told
