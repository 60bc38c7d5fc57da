"""The light fold has the same state of every account as the oracle, after every entry of random journals."""

import random

import pytest
from lua.random_batches import RandomBatches
from lua.reused_ids import ReusedIds

from wallet_engine.domain.columns import pack
from wallet_engine.domain.entry import RULES, ZERO_NONCE, Entry, EntryHeader, parse_entry
from wallet_engine.domain.errors import Corruption, NewerFormat
from wallet_engine.domain.ids import TRANSIT
from wallet_engine.domain.memory import transfer_field
from wallet_engine.domain.operation import Operation, parse_operation
from wallet_engine.domain.oracle import apply_payload
from wallet_engine.domain.oracle_rules import decide_operations, has_effect
from wallet_engine.domain.oracle_state import PartitionState, redis_image, state_of_image
from wallet_engine.history.book import Book, Wanted, wanted
from wallet_engine.history.facts import PENDING, SUCCESS, Facts
from wallet_engine.history.fold import fold

T1, T2 = "A" * 22, "B" * 22


def entry_of(
    state: PartitionState, lines: list[str], time_ms: int, window: int = 1, rules: int = RULES
) -> bytes | None:
    """The next entry of a state, with these operations; None if it is empty. The state does not change."""
    operations = [parse_operation(line) for line in lines]
    trial = state_of_image(redis_image(state), state.epoch)
    outcomes = decide_operations(trial, operations, time_ms, window, rules)
    if not has_effect(operations, outcomes):
        return None
    header = EntryHeader(
        state.seq + 1, state.nonce, f"{state.seq + 1:016x}", 1, time_ms, window, outcomes, rules, 0
    )
    return header.text().encode() + b"\n" + pack(operations).columns


def facts_of(lines: list[list[str]], partition: int = 0) -> Facts:
    """The facts of entries with these operations, from the first entry on."""
    state, book, facts = PartitionState(), Book(), Facts()
    for number, batch in enumerate(lines, 1):
        payload = entry_of(state, batch, 1_000 * number)
        assert payload is not None
        apply_payload(state, payload)
        fold(partition, parse_entry(payload), book, facts)
    return facts


@pytest.mark.parametrize("made", [RandomBatches, ReusedIds])
@pytest.mark.parametrize("seed", range(6))
def test_the_fold_agrees_with_the_oracle_after_every_entry(seed: int, made: type[RandomBatches]) -> None:
    """Also when its book has only the accounts that were asked for."""
    chance, batches, book = random.Random(seed), made(seed), Book()
    everything, entries = Book(), 0
    for _ in range(150):
        state, lines = batches.state, batches.batch(12)
        window = state.window + batches.rotates()
        time_ms = max(state.clock, 1_795_255_200_000) + chance.randrange(3000)
        payload = entry_of(state, lines, time_ms, window)
        if payload is None:
            continue
        apply_payload(state, payload)
        batches.note(lines, parse_entry(payload).header.outcomes)
        entry, facts, needed = parse_entry(payload), Facts(), Wanted(set(), set(), set())
        wanted(entry, book, needed)
        for key in needed.accounts & everything.standings.keys():
            book.standings[key] = everything.standings[key]
        for hold in needed.holds & everything.holds.keys():
            book.holds[hold] = everything.holds[hold]
        for group in needed.groups:
            book.prepared[group] = everything.prepared.get(group, False)
        fold(0, entry, book, facts)
        everything.standings.update(book.standings)
        everything.holds.update(book.holds)
        everything.prepared.update(book.prepared)
        if chance.random() < 0.3:
            book = Book()
        entries += 1
        for currency, balances in state.balances.items():
            for account, available in balances.items():
                if account == TRANSIT:
                    continue
                held = state.held.get(currency, {}).get(account, 0)
                pending = state.pending.get(currency, {}).get(account, 0)
                found = everything.standing(account, currency)
                assert (found.balance, found.held, found.pending) == (available + held, held, pending), (
                    f"seed {seed}: {account} {currency} after entry {state.seq}"
                )
    assert entries > 50


def test_a_transfer_across_partitions_is_pending_where_it_begins_and_ended_where_it_arrives() -> None:
    sent = facts_of([["o - alice - 0 USD", f"d {T2} @bank alice 5 USD"], [f"t {T1} @bank alice 500 USD"]])
    (pending, deposit) = sent.transfers
    assert (pending.status, pending.type, deposit.status, deposit.type) == (
        PENDING,
        "deposit",
        SUCCESS,
        "deposit",
    )
    arrived = facts_of([["o - bob - 0 USD"], ["c 0.1 bob 1 5 USD"]], 3)
    (end,) = arrived.ends
    assert (end.origin, end.status) == (pending.origin, SUCCESS)
    assert [posting.balance for posting in arrived.postings] == [0, 5]


def test_a_refused_credit_comes_back_as_a_reversal() -> None:
    facts = facts_of(
        [
            ["o - alice - 0 USD", f"t {T1} @bank alice 500 USD"],
            [f"d {T2} alice gone 200 USD"],
            [f"r {T2} alice 2.0.a 200 USD"],
        ]
    )
    (end,) = facts.ends
    assert (end.origin, end.status, end.code) == (facts.transfers[-1].origin, "declined", "account_not_found")
    assert [(p.account, p.delta, p.type) for p in facts.postings][-1] == ("alice", 200, "reversal")


def test_a_decline_is_told_to_its_payer_and_changes_nothing() -> None:
    facts = facts_of([["o - alice - 0 USD", "o - bob - 0 USD", f"t {T1} alice bob 1 USD"]])
    (transfer,) = facts.transfers
    assert (transfer.status, transfer.code) == ("declined", "insufficient_funds")
    told = facts.postings[-1]
    assert (told.account, told.delta, told.status, told.code) == (
        "alice",
        0,
        "declined",
        "insufficient_funds",
    )


def test_a_group_that_is_declined_is_told_to_who_would_have_paid() -> None:
    legs = "b0|alice|bob|900|USD;b1|bob|alice|100|USD;n2|gone|bob|1|USD;"
    facts = facts_of([["o - alice - 0 USD", "o - bob - 0 USD"], [f"m {T1} alice mark:0:c:{legs} 0 -"]])
    told = [
        (p.account, p.counterparty, p.amount_minor, p.delta, p.status, p.code) for p in facts.postings[2:]
    ]
    assert told == [
        ("alice", "bob", 900, 0, "declined", "insufficient_funds"),
        ("bob", "alice", 100, 0, "declined", "insufficient_funds"),
    ]


def test_what_is_not_known_is_refused() -> None:
    header = EntryHeader(1, ZERO_NONCE, "1" * 16, 1, 1, 1, "+", RULES)
    operation = Operation("@", "-", "alice", "-", 0, "-")
    with pytest.raises(Corruption, match="kind of operation"):
        fold(0, Entry(header, (operation,)), Book(), Facts())
    with pytest.raises(NewerFormat, match=f"rules {RULES + 1}"):
        fold(0, Entry(header._replace(rules=RULES + 1), ()), Book(), Facts())
    paid = Operation("d", T1, "alice", "bob", 1, "USD")
    with pytest.raises(Corruption, match="never opened"):
        fold(0, Entry(header, (paid,)), Book(), Facts())


@pytest.mark.parametrize(("rules", "held", "captured"), [(4, 450, -150), (5, 300, 0)])
def test_an_undone_capture_of_a_hold_whose_id_was_used_again(rules: int, held: int, captured: int) -> None:
    """Rules 4 gave its money to the later hold."""
    field = transfer_field("alice", T1)
    batches = [
        (1, ["o - alice - 0 USD", f"t {T2} @bank alice 1000 USD", f"h {T1} alice -|900000 400 USD"]),
        (1, [f"q {T2[1:]}C alice far|{field}|p|150 150 USD", f"v {T1} alice - 0 USD"]),
        (2, ["n api - - 0 -"]),
        (3, [f"h {T1} alice -|900000 300 USD"]),
        (3, [f"u {T2[1:]}C alice 2.0.c|{field} 150 USD"]),
    ]
    state, book, facts = PartitionState(), Book(), Facts()
    for number, (window, lines) in enumerate(batches, 1):
        payload = entry_of(state, lines, 1_000 * number, window, rules)
        assert payload is not None
        apply_payload(state, payload)
        fold(0, parse_entry(payload), book, facts)
    assert state.held["USD"]["alice"] == book.standing("alice", "USD").held == held
    assert book.holds["alice", T1].captured == captured
