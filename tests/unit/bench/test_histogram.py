"""Percentiles from buckets, against percentiles of the sorted values."""

import math
import secrets
from random import Random

import pytest

from bench.histogram import Histogram


def recorded(seconds: list[float]) -> Histogram:
    histogram = Histogram()
    for value in seconds:
        histogram.record(value)
    return histogram


def test_an_empty_histogram_says_zero() -> None:
    assert Histogram().summary_ms() == {"p50": 0, "p90": 0, "p99": 0, "p999": 0, "max": 0}


@pytest.mark.parametrize("percent", [0.1, 50, 90, 99, 99.9, 100])
def test_percentiles_are_within_a_hundredth_of_the_exact_ones(percent: float) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    rng = Random(seed)
    values = [rng.lognormvariate(-6, 2) for _ in range(5000)]
    exact_ms = sorted(values)[max(1, math.ceil(round(5000 * percent / 100, 6))) - 1] * 1000
    assert recorded(values).percentile_ms(percent) == pytest.approx(exact_ms, rel=0.01, abs=0.0011)


def test_ranks_are_exact_where_buckets_are() -> None:
    histogram = recorded([micros / 1e6 + 1e-9 for micros in range(1, 101)])
    shown = {percent: histogram.percentile_ms(percent) for percent in (1, 50, 90, 99, 100)}
    assert shown == {1: 0.001, 50: 0.050, 90: 0.090, 99: 0.099, 100: 0.1}


def test_the_last_of_a_thousand_is_not_the_999th() -> None:
    histogram = recorded([0.001] * 999 + [1.0])
    assert histogram.percentile_ms(99.9) == pytest.approx(1, rel=0.01)
    assert histogram.percentile_ms(100) == 1000


def test_no_latency_is_out_of_range() -> None:
    histogram = recorded([-1e-9, 0.0, 127e-6, 128e-6, 255e-6, 256e-6, 134.2, 1e6])
    assert histogram.count == 8
    assert histogram.summary_ms()["max"] == 1e9
