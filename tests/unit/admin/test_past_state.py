"""The sums over a whole past state."""

from decimal import Decimal

from support.written import Written

from wallet_engine.admin.proof.past_state import PastState

ID = "A" * 21


def test_g2_the_sums_are_zero_also_with_money_that_is_held_or_pending() -> None:
    """What was held was in no sum."""
    written = Written(1)
    written.write(
        0,
        "+ o - alice - 0 USD",
        "+ o - bob - 0 USD",
        f"+ t {ID}1 @bank alice 1000 USD",
        f"+ h {ID}2 alice -|60000 300 USD",
        f"+ p {ID}3 carol mark:0:-:p0|alice|bob|200|USD;r0|alice|bob|200|USD; 0 -",
    )
    sums = PastState(written.states, 1).totals()["totals"]["USD"]
    assert sum(map(Decimal, sums.values())) == 0
    assert sums == {"accounts": "10.00", "pending": "2.00", "@bank": "-10.00", "@transit": "-2.00"}
