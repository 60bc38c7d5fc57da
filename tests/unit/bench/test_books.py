"""Each kind of fault in the books is found."""

import pytest

from bench.books import Books
from bench.funding import FUNDS_MINOR_HOT, funds_of, funds_total
from bench.scrape import script_counters
from wallet_engine.domain.limits import AMOUNT_MINOR_MAX

GOOD = ((0, [("a", 70), ("@bank", -100), ("@transit", 30)]), (1, [("b", 30), ("@transit", -30)]))


def books(*hashes: tuple[int, list[tuple[str, int]]]) -> Books:
    made = Books()
    for partition, balances in hashes:
        made.add(partition, "USD", balances)
    return made


def test_books_that_add_up() -> None:
    assert books(*GOOD).faults({"USD": 100}, 2) == []


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (books((0, [("a", 100), ("@bank", -99)])), "partition 0 sums to 1 USD"),
        (
            books((0, [("a", 70), ("@bank", -100), ("@transit", 30)]), (1, [("b", 0)])),
            "@transit holds 30 USD",
        ),
        (books((0, [("a", 99), ("@bank", -99)]), (1, [("b", 0)])), "the accounts hold {'USD': 99}"),
        (books((0, [("a", 100), ("@bank", -100)])), "there are 1 accounts instead of 2"),
        (Books(open_entries=3), "3 entries are still open"),
    ],
)
def test_each_fault_is_named(made: Books, said: str) -> None:
    assert any(said in fault for fault in made.faults({"USD": 100}, 2))


@pytest.mark.parametrize("accounts", [2, 1000, 10**7, 10**8])
def test_what_is_given_is_what_is_expected_and_fits(accounts: int) -> None:
    assert funds_of(0, accounts) == FUNDS_MINOR_HOT
    total = funds_total(accounts)
    assert total == FUNDS_MINOR_HOT + funds_of(accounts - 1, accounts) * (accounts - 1)
    assert funds_of(1, accounts) > 0
    assert total < AMOUNT_MINOR_MAX


def test_counters_are_read_from_an_exposition() -> None:
    text = (
        "# HELP wallet_script_operations Operations in one script call.\n"
        'wallet_script_operations_bucket{le="1.0"} 5.0\n'
        "wallet_script_operations_count 7.0\nwallet_script_operations_sum 1.5e+03\n"
    )
    assert script_counters([text, text, ""]) == {"script_calls": 14, "operations": 3000}
