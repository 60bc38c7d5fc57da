"""With random operations, the promises about money hold after every entry (G2, G3, G4, G12)."""

import random
from collections import Counter
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st
from lua.random_batches import RandomBatches
from lua.reused_ids import ReusedIds

from wallet_engine.domain.entry import RULES
from wallet_engine.domain.operation import Operation, parse_operation
from wallet_engine.domain.oracle import apply_payload, decide
from wallet_engine.domain.oracle_state import PartitionState, redis_image, state_of_image

MAX: Final = 2**53 - 1

accounts = st.sampled_from(["alice", "bob", "carol", "@mint", "@fees"])
amounts = st.one_of(st.integers(1, 50), st.integers(MAX - 50, MAX), st.integers(1, MAX))
currencies = st.sampled_from(["USD", "EUR"])
txids = st.sampled_from(["T1", "T2", "T3", "T4", "T5", "T6"])
small = st.integers(0, 5).map(str)
limits = st.sampled_from(["-", "0", "50", str(MAX)])
flags = st.sampled_from(["freeze", "unfreeze", "close", "closing", "close.1", "close.2", "reopen.2"])
payments = st.tuples(accounts, accounts).filter(lambda pair: pair[0] != pair[1])


def _operation(kind: str, id_: str, a: str, b: str, amount: int, currency: str) -> Operation:
    return Operation(kind, id_, a, b, amount, currency)


operations = st.one_of(
    st.builds(
        _operation,
        st.just("o"),
        st.just("-"),
        st.sampled_from(["alice", "bob", "carol"]),
        limits,
        st.just(0),
        currencies,
    ),
    st.builds(
        lambda txid, pair, n, ccy: Operation("t", txid, *pair, n, ccy), txids, payments, amounts, currencies
    ),
    st.builds(_operation, st.just("d"), txids, accounts, st.just("far"), amounts, currencies),
    st.builds(_operation, st.just("c"), small.map("9.{}".format), accounts, small, amounts, currencies),
    st.builds(
        lambda txid, a, seq, idx, n, ccy: Operation("r", txid, a, f"{seq}.{idx}.a", n, ccy),
        txids,
        accounts,
        small,
        small,
        amounts,
        currencies,
    ),
    st.builds(_operation, st.just("s"), small, st.just("-"), st.just("-"), st.just(0), st.just("-")),
    st.builds(
        _operation,
        st.just("f"),
        st.just("-"),
        st.sampled_from(["alice", "bob"]),
        flags,
        st.just(0),
        st.just("-"),
    ),
)
batches = st.lists(
    st.tuples(st.booleans(), st.lists(operations, min_size=1, max_size=8)), min_size=1, max_size=12
)


@settings(max_examples=200, deadline=None, print_blob=True, database=None)
@given(batches)
def test_books_balance_and_nobody_is_overdrawn(drawn: list[tuple[bool, list[Operation]]]) -> None:
    state = PartitionState()
    for rotates, batch in drawn:
        window = state.window + (rotates and state.seq > 0)
        seq, before = state.seq, redis_image(state)
        decide(state, batch, state.clock + 1, window)
        state.check()
        assert set(state.books().values()) <= {0}
        assert state.seq in (seq, seq + 1)
        if state.seq == seq:
            assert redis_image(state) == before
        assert redis_image(state_of_image(redis_image(state))) == redis_image(state)


@settings(max_examples=100, deadline=None, print_blob=True, database=None)
@given(batches)
def test_the_same_batch_again_moves_no_money(drawn: list[tuple[bool, list[Operation]]]) -> None:
    """G4: transfers, debits and credits that are sent again within the retention are repeats or conflicts."""
    state = PartitionState()
    for _, batch in drawn:
        decide(state, batch, state.clock + 1, state.window)
        balances = {currency: dict(book) for currency, book in state.balances.items()}
        again = [operation for operation in batch if operation.kind in "tdc"]
        outcomes = decide(state, again, state.clock + 1, state.window)
        assert set(outcomes) <= set("=!")
        assert state.balances == balances


def test_random_entries_fold_to_the_state_that_made_them() -> None:
    """G6, without Redis: decide entries, record them, and fold the record."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    batches_drawn = RandomBatches(seed)
    state, folded = batches_drawn.state, PartitionState()
    for number in range(300):
        seq, prev_nonce, nonce = state.seq, state.nonce, f"{number:016x}"
        lines = batches_drawn.batch()
        window = state.window + batches_drawn.rotates()
        outcomes = decide(state, [parse_operation(line) for line in lines], number, window, nonce=nonce)
        batches_drawn.note(lines, outcomes)
        if state.seq > seq:
            text = "".join(f"{line}\n" for line in lines)
            header = f"{state.seq} {prev_nonce} {nonce} 1 {number} {window} {outcomes} {RULES}\n"
            apply_payload(folded, (header + text).encode())
    state.check()
    assert redis_image(folded) == redis_image(state)


def test_g4_what_is_undone_of_an_id_changes_nothing_of_its_next_use() -> None:
    """`ReusedIds` checks answers, refunded sums and holds after every entry."""
    overtaken: Counter[str] = Counter()
    for seed in range(8):
        batches, time_ms = ReusedIds(seed), 1_795_255_200_000
        for _ in range(400):
            rotates, lines = batches.rotates(), batches.batch()
            time_ms += batches.random.randint(0, 600)
            operations = [parse_operation(line) for line in lines]
            outcomes = decide(batches.state, operations, time_ms, batches.state.window + rotates)
            batches.note(lines, outcomes)
        batches.state.check()
        overtaken += batches.overtaken
    assert overtaken.keys() == {"r", "u", "j", "total", "hold"}
