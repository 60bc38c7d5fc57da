"""The events of entries: one row per case, and properties of the events of any run."""

from typing import Any

import pytest
from support.written import FIRST_MS, Written

from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.ids import pack_transaction_id
from wallet_engine.domain.memory import transfer_field
from wallet_engine.domain.times import time_text
from wallet_engine.events.event import TYPES, Event, event_id
from wallet_engine.events.maker import Maker, from_first
from wallet_engine.events.making import events_of
from wallet_engine.history.book import Book
from wallet_engine.history.facts import Facts
from wallet_engine.history.fold import fold
from wallet_engine.journal.errors import Fork
from wallet_engine.journal.feed import FeedEntry, FeedPosition

pytestmark = pytest.mark.anyio

U = [f"00000000-0000-0000-0000-{number:012d}" for number in range(10)]
T = [pack_transaction_id(uuid) for uuid in U]
WEEK = 604_800_000
OPENED = ["+ o - alice - 0 USD", "+ o - bob - 0 USD", f"+ t {T[9]} @bank alice 1000 USD"]
FIELD = transfer_field("alice", T[1])
ORIGINAL = f"alice|{FIELD}|0.2.0|l|400|-"
LEGS = "Xmark:0:c:b0|alice|bob|5|USD;b1|@fees|alice|2|USD;"

Row = tuple[str, str, str, dict[str, Any]]


async def events_of_all(written: Written, entries: list[FeedEntry] | None = None) -> list[Event]:
    maker = Maker(written)
    for partition in written.states:
        maker.begin(partition, from_first())
    made = await maker.make(written.all())
    wanted = None if entries is None else {(at.partition, at.seq) for at in entries}
    return [
        event
        for each in made
        if wanted is None or (each.entry.partition, each.entry.seq) in wanted
        for event in each.events
    ]


def posting(account: str, delta: str, balance: str, available: str, **more: str) -> dict[str, str]:
    data = {"account_id": account, "currency": "USD", "delta": delta, "balance": balance}
    held = more.pop("held", "0.00")
    return {**data, "available": available, "held": held, "pending": more.pop("pending", "0.00"), **more}


def moved(payer: str, receiver: str, amount: str, transaction: str) -> dict[str, str]:
    sides = {"transaction_id": transaction, "from_account": payer, "to_account": receiver}
    return {**sides, "amount": amount, "currency": "USD"}


CASES: list[tuple[str, list[list[str]], list[Row]]] = [
    (
        "an account opened with limits",
        [["+ o - carol 500<900 0 USD"]],
        [
            ("2.0", "account.opened", "carol", {
                "account_id": "carol", "currency": "USD", "overdraft_limit": "5.00", "max_balance": "9.00",
            }),
        ],
    ),
    (
        "limits changed, with something noted",
        [['+ a - alice 300|- 0 USD {"meta":{"why":"x"}}']],
        [
            ("2.0", "account.updated", "alice", {
                "account_id": "alice", "currency": "USD", "overdraft_limit": "3.00", "metadata": {"why": "x"},
            }),
        ],
    ),
    (
        "the maximum removed",
        [["+ a - alice -|9007199254740991 0 USD"]],
        [
            ("2.0", "account.updated", "alice", {
                "account_id": "alice", "currency": "USD", "max_balance": None,
            }),
        ],
    ),
    (
        "frozen and back; again is no news",
        [["+ f - alice freeze 0 -", "= f - alice freeze 0 -", "+ f - alice unfreeze 0 -"]],
        [
            ("2.0", "account.frozen", "alice", {"account_id": "alice"}),
            ("2.2", "account.unfrozen", "alice", {"account_id": "alice"}),
        ],
    ),
    ("closed", [["+ f - bob close 0 -"]], [("2.0", "account.closed", "bob", {"account_id": "bob"})]),
    ("a close that has to wait is nobody's news", [["+ f - bob closing 0 -"], ["+ f - bob reopen.2 0 -"]], []),
    (
        "a transfer",
        [[f'+ t {T[1]} alice bob 400 USD #k7 {{"ref":"rent"}}']],
        [
            ("2.0", "transfer.succeeded", "alice", {
                **moved("alice", "bob", "4.00", U[1]), "reference": "rent", "key": "k7",
            }),
            ("2.0a", "posting", "alice", posting(
                "alice", "-4.00", "6.00", "6.00", transaction_id=U[1], counterparty="bob", key="k7")),
            ("2.0b", "posting", "bob", posting(
                "bob", "4.00", "4.00", "4.00", transaction_id=U[1], counterparty="alice", key="k7")),
        ],
    ),
    (
        "a decline moves nothing, and neither do repeats and conflicts",
        [[f"i t {T[1]} alice bob 1001 USD", f"= t {T[1]} alice bob 1001 USD", f"! t {T[1]} alice bob 1 USD"]],
        [
            ("2.0", "transfer.declined", "alice", {
                **moved("alice", "bob", "10.01", U[1]), "code": "insufficient_funds",
            }),
        ],
    ),
    (
        "money from a system account is told of who gets it",
        [[f"+ t {T[1]} @fees alice 5 USD"]],
        [
            ("2.0", "transfer.succeeded", "alice", moved("@fees", "alice", "0.05", U[1])),
            ("2.0a", "posting", "@fees", {
                "account_id": "@fees", "currency": "USD", "delta": "-0.05",
                "transaction_id": U[1], "counterparty": "alice",
            }),
            ("2.0b", "posting", "alice", posting(
                "alice", "0.05", "10.05", "10.05", transaction_id=U[1], counterparty="@fees")),
        ],
    ),
    (
        "a hold from its beginning to its end",
        [
            [f"+ h {T[1]} alice bob|{WEEK} 400 USD"],
            [f"+ i {T[2]} alice {FIELD} 100 USD"],
            [f"+ k {T[3]} alice bob|{FIELD}|p|200 200 USD"],
            [f"+ v {T[1]} alice - 0 USD"],
        ],
        [
            ("2.0", "hold.placed", "alice", {
                "account_id": "alice", "hold_id": U[1], "amount": "4.00", "currency": "USD",
                "expires_at": time_text(FIRST_MS + 2_000 + WEEK), "to_account": "bob",
            }),
            ("2.0a", "posting", "alice", posting("alice", "0.00", "10.00", "6.00", held="4.00", hold_id=U[1])),
            ("3.0", "hold.increased", "alice", {
                "account_id": "alice", "hold_id": U[1], "transaction_id": U[2], "amount": "1.00", "currency": "USD",
            }),
            ("3.0a", "posting", "alice", posting("alice", "0.00", "10.00", "5.00", held="5.00", hold_id=U[1])),
            ("4.0", "hold.captured", "alice", {
                "hold_id": U[1], "transaction_id": U[3], "account_id": "alice", "to_account": "bob",
                "amount": "2.00", "currency": "USD", "final": False,
            }),
            ("4.0a", "posting", "alice", posting(
                "alice", "-2.00", "8.00", "5.00", held="3.00", transaction_id=U[3], counterparty="bob")),
            ("4.0b", "posting", "bob", posting(
                "bob", "2.00", "2.00", "2.00", transaction_id=U[3], counterparty="alice")),
            ("5.0", "hold.voided", "alice", {"account_id": "alice", "hold_id": U[1], "currency": "USD"}),
            ("5.0a", "posting", "alice", posting("alice", "0.00", "8.00", "8.00", hold_id=U[1])),
        ],
    ),
    (
        "a hold that has expired, by itself and when it is voided",
        [
            [f"+ h {T[1]} alice -|0 400 USD", f"+ h {T[2]} alice -|0 100 USD"],
            [f"+ e {T[1]} alice - 0 USD", f"+ v {T[2]} alice - 0 USD"],
        ],
        [
            ("2.0", "hold.placed", "alice", {
                "account_id": "alice", "hold_id": U[1], "amount": "4.00", "currency": "USD",
                "expires_at": time_text(FIRST_MS + 2_000),
            }),
            ("2.0a", "posting", "alice", posting("alice", "0.00", "10.00", "6.00", held="4.00", hold_id=U[1])),
            ("2.1", "hold.placed", "alice", {
                "account_id": "alice", "hold_id": U[2], "amount": "1.00", "currency": "USD",
                "expires_at": time_text(FIRST_MS + 2_000),
            }),
            ("2.1a", "posting", "alice", posting("alice", "0.00", "10.00", "5.00", held="5.00", hold_id=U[2])),
            ("3.0", "hold.expired", "alice", {"account_id": "alice", "hold_id": U[1], "currency": "USD"}),
            ("3.0a", "posting", "alice", posting("alice", "0.00", "10.00", "9.00", held="1.00", hold_id=U[1])),
            ("3.1", "hold.expired", "alice", {"account_id": "alice", "hold_id": U[2], "currency": "USD"}),
            ("3.1a", "posting", "alice", posting("alice", "0.00", "10.00", "10.00", hold_id=U[2])),
        ],
    ),
    (
        "a refund",
        [[f"+ t {T[1]} alice bob 400 USD"], [f"+ x {T[2]} bob {ORIGINAL} 400 USD"]],
        [
            ("2.0", "transfer.succeeded", "alice", moved("alice", "bob", "4.00", U[1])),
            ("2.0a", "posting", "alice", posting(
                "alice", "-4.00", "6.00", "6.00", transaction_id=U[1], counterparty="bob")),
            ("2.0b", "posting", "bob", posting(
                "bob", "4.00", "4.00", "4.00", transaction_id=U[1], counterparty="alice")),
            ("3.0", "refund.succeeded", "bob", {**moved("bob", "alice", "4.00", U[2]), "refund_of": U[1]}),
            ("3.0a", "posting", "bob", posting(
                "bob", "-4.00", "0.00", "0.00", transaction_id=U[2], counterparty="alice")),
            ("3.0b", "posting", "alice", posting(
                "alice", "4.00", "10.00", "10.00", transaction_id=U[2], counterparty="bob")),
        ],
    ),
    (
        "a group, and one that is declined",
        [
            [f"+ m {T[1]} alice {LEGS} 0 -"],
            [f"i m {T[2]} alice Ymark:0:c:b0|alice|bob|2000|USD; 0 -"],
        ],
        [
            ("2.0", "group.succeeded", "alice", {
                "transaction_id": U[1], "from_account": "alice",
                "legs": [
                    {"from_account": "alice", "to_account": "bob", "amount": "0.05", "currency": "USD"},
                    {"from_account": "@fees", "to_account": "alice", "amount": "0.02", "currency": "USD"},
                ],
            }),
            ("2.0a", "posting", "alice", posting(
                "alice", "-0.05", "9.95", "9.95", transaction_id=U[1], counterparty="bob")),
            ("2.0b", "posting", "bob", posting(
                "bob", "0.05", "0.05", "0.05", transaction_id=U[1], counterparty="alice")),
            ("2.0c", "posting", "@fees", {
                "account_id": "@fees", "currency": "USD", "delta": "-0.02",
                "transaction_id": U[1], "counterparty": "alice",
            }),
            ("2.0d", "posting", "alice", posting(
                "alice", "0.02", "9.97", "9.97", transaction_id=U[1], counterparty="@fees")),
            ("3.0", "group.declined", "alice", {
                "transaction_id": U[2], "from_account": "alice", "code": "insufficient_funds",
                "legs": [{"from_account": "alice", "to_account": "bob", "amount": "20.00", "currency": "USD"}],
            }),
        ],
    ),
    ("probes are nobody's news", [["+ n doctor - - 0 -"]], []),
]  # fmt: skip


@pytest.mark.parametrize(("batches", "rows"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
async def test_what_entries_are_told_as(batches: list[list[str]], rows: list[Row]) -> None:
    written = Written(1)
    written.write(0, *OPENED)
    entries = [written.write(0, *batch) for batch in batches]
    events = await events_of_all(written, entries)
    found = [(event.id, event.type, event.subject, event.data) for event in events]
    assert found == [(f"0.{name}", *row) for name, *row in rows]
    assert all(event.subject in event.accounts for event in events)


def write_across(written: Written, decided: str = "+") -> None:
    """Alice in partition 0 pays bob in partition 1. `decided`: the outcome of the credit."""
    written.write(0, "+ o - alice - 0 USD", f"+ t {T[9]} @bank alice 1000 USD")
    written.write(1, *(["+ o - bob - 0 USD"] if decided == "+" else ["+ n x - - 0 -"]))
    written.write(0, f'+ d {T[1]} alice bob 400 USD #k7 {{"ref":"rent"}}')
    written.write(1, f"{decided} c 0.2 bob 0 400 USD #k7")
    if decided != "+":
        written.write(0, f"+ r {T[1]} alice 2.0.{decided} 400 USD #k7")
    written.write(0, "+ s 2 - - 0 -")


async def test_a_transfer_across_partitions_is_told_where_it_is_received() -> None:
    written = Written()
    write_across(written)
    events = [event for event in await events_of_all(written) if event.data.get("transaction_id") == U[1]]
    assert [(event.id, event.type, event.subject) for event in events] == [
        ("0.2.0", "posting", "alice"),
        ("1.2.0", "transfer.succeeded", "bob"),
        ("1.2.0a", "posting", "bob"),
    ]
    sent, succeeded, received = events
    assert succeeded.data == {**moved("alice", "bob", "4.00", U[1]), "reference": "rent", "key": "k7"}
    assert set(succeeded.accounts) == {"alice", "bob"}
    assert sent.data["counterparty"] == "bob"
    assert received.data["counterparty"] == "alice"


async def test_one_that_is_refused_there_is_told_where_the_money_comes_back() -> None:
    written = Written()
    write_across(written, decided="g")
    events = [event for event in await events_of_all(written) if event.data.get("transaction_id") == U[1]]
    assert [(event.id, event.type, event.subject) for event in events] == [
        ("0.2.0", "posting", "alice"),
        ("0.3.0", "transfer.declined", "alice"),
        ("0.3.0a", "posting", "alice"),
    ]
    assert events[1].data == {
        **moved("alice", "bob", "4.00", U[1]),
        "reference": "rent",
        "code": "account_not_found",
        "key": "k7",
    }
    assert events[2].data["balance"] == "10.00"


async def test_captures_and_refunds_across_partitions() -> None:
    written = Written()
    written.write(0, "+ o - alice - 0 USD", f"+ t {T[9]} @bank alice 1000 USD")
    written.write(1, "+ o - bob - 0 USD")
    written.write(0, f"+ h {T[1]} alice -|{WEEK} 400 USD")
    written.write(0, f"+ q {T[2]} alice bob|{FIELD}|f|- 400 USD")
    written.write(1, "+ c 0.3 bob 0 400 USD")
    written.write(0, f"+ l - alice 3.0|{FIELD} 0 USD", "+ s 3 - - 0 -")
    field = transfer_field("alice", T[2])
    written.write(1, f"+ z {T[3]} bob alice|{field}|0.3.0|c|400|100 100 USD")
    written.write(0, "+ c 1.3 alice 0 100 USD")
    everything = await events_of_all(written)
    ended = next(event for event in everything if event.id == "0.4.0")
    assert (ended.data["hold_id"], ended.data["held"]) == (U[1], "0.00")
    assert "transaction_id" not in ended.data
    events = [event for event in everything if event.type != "posting"]
    captured, refunded = events[-2:]
    assert (captured.id, captured.type, captured.subject) == ("1.2.0", "hold.captured", "bob")
    assert captured.data["hold_id"] == U[1]
    assert captured.data["amount"] == "4.00"
    assert (refunded.id, refunded.type, refunded.subject) == ("0.5.0", "refund.succeeded", "alice")
    assert refunded.data == {**moved("bob", "alice", "1.00", U[3]), "refund_of": U[2]}


async def test_a_debit_that_another_follows_is_read_from_the_feed() -> None:
    written = Written()
    write_across(written)
    maker = Maker(written)
    maker.begin(1, from_first())
    made = await maker.make([entry for entry in written.all() if entry.partition == 1])
    succeeded = made[-1].events[0]
    assert succeeded.type == "transfer.succeeded"
    assert succeeded.data["from_account"] == "alice"
    assert written.read == [(0, 2)]


async def test_what_was_told_is_not_told_again_and_balances_go_on() -> None:
    written = Written()
    write_across(written)
    everything = await events_of_all(written)
    for cut in range(len(written.payloads) + 1):
        maker, told = Maker(written), dict.fromkeys(written.states, FeedPosition(0, None))
        before = written.all()[:cut]
        for entry in before:
            told[entry.partition] = entry.position
        for partition, position in told.items():
            maker.begin(partition, from_first(position))
        made = await maker.make(written.all())
        again = [event for each in made for event in each.events]
        done = {(entry.partition, entry.seq) for entry in before}
        assert again == [
            event for event in everything if tuple(map(int, event.id.split(".")[:2])) not in done
        ]


async def test_another_chain_is_no_continuation() -> None:
    written = Written(1)
    written.write(0, *OPENED)
    maker = Maker(written)
    maker.begin(0, from_first(FeedPosition(1, "f" * 16)))
    with pytest.raises(Fork):
        await maker.make(written.all())
    assert maker.books == {}


async def test_a_credit_for_no_debit_is_corruption() -> None:
    written = Written()
    write_across(written)
    entry = written.all()[3]
    book = Book()
    facts = Facts()
    fold(1, written.all()[1].entry, book, Facts())
    fold(1, entry.entry, book, facts)
    with pytest.raises(Corruption, match="no debit"):
        events_of(1, entry.entry, facts, {})


def test_ids_have_letters_behind_the_first() -> None:
    assert [event_id(3, 17, 2, nth) for nth in (0, 1, 2, 26, 27, 28, 702, 703)] == [
        *("3.17.2", "3.17.2a", "3.17.2b", "3.17.2z", "3.17.2aa", "3.17.2ab", "3.17.2zz", "3.17.2aaa"),
    ]


def test_an_event_is_a_cloud_event() -> None:
    event = Event("3.17.2", TYPES[0], "alice", 1_795_255_200_007, {"amount": "1.00"}, ("alice",))
    assert event.document("urn:wallet:one") == {
        "specversion": "1.0",
        "id": "3.17.2",
        "source": "urn:wallet:one",
        "type": "account.opened",
        "subject": "alice",
        "time": "2026-11-21T10:00:00.007Z",
        "datacontenttype": "application/json",
        "data": {"amount": "1.00"},
    }
