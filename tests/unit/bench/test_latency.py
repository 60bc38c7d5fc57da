"""Percentiles of the histogram, compared with percentiles of the sorted values."""

import math
import secrets
from random import Random

import pytest

from bench.latency import PERCENTS, Latencies, summary_ms


def test_no_latencies_are_zeros() -> None:
    assert Latencies().summary_ms() == {"p50": 0, "p90": 0, "p99": 0, "p999": 0, "max": 0}


def test_percentiles_are_within_a_thousandth_of_the_exact_ones() -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    rng = Random(seed)
    latencies = Latencies()
    values = [rng.lognormvariate(-6, 2) for _ in range(5000)]
    for value in values:
        latencies.record(value)
    assert len(latencies) == 5000
    found = latencies.summary_ms()
    values.sort()
    for name, percent in PERCENTS.items():
        exact_ms = values[math.ceil(round(5000 * percent / 100, 6)) - 1] * 1000
        assert found[name] == pytest.approx(exact_ms, rel=0.001, abs=0.0011)
    assert found["max"] == pytest.approx(values[-1] * 1000, rel=0.001)


def test_one_slow_request_in_a_thousand_is_the_last_permille() -> None:
    found = summary_ms([0.001] * 998 + [1.0] * 2)
    assert found["p99"] == pytest.approx(1, rel=0.001)
    assert found["p999"] == pytest.approx(1000, rel=0.001)


def test_no_latency_is_out_of_range() -> None:
    assert summary_ms([-1e-9, 0.0, 1e9])["max"] == pytest.approx(3600e3, rel=0.001)
