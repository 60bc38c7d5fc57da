"""The ages after which an operation needs a check first."""

import pytest

from wallet_engine.engine.horizons import Horizons

DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("asked_ms", "age_ms"),
    [(None, DAY_MS // 2), (1000, 1000), (DAY_MS // 2, DAY_MS // 2), (DAY_MS, DAY_MS // 2)],
)
def test_g4_credits_are_looked_up_before_their_receiver_may_have_forgotten_them(
    asked_ms: int | None, age_ms: int
) -> None:
    """The flag can make that earlier, never later."""
    assert Horizons(look_up_age_ms=asked_ms).look_up_age(DAY_MS) == age_ms
