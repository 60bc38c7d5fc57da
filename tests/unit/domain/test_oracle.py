"""The oracle refuses broken chains, outcomes that do not follow, and damaged books (G2, G3, G7, G12)."""

import pytest

from wallet_engine.domain.entry import ZERO_NONCE, body_of, parse_entry, parse_header
from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.memory import TransferRecord, transfer_field, transfer_fingerprint
from wallet_engine.domain.oracle import apply_entry, apply_payload
from wallet_engine.domain.oracle_batch import Batch
from wallet_engine.domain.oracle_state import (
    Flags,
    PartitionState,
    image_digest,
    image_lines,
    redis_image,
    state_of_image,
)
from wallet_engine.domain.outcomes import Outcome

MAX = 2**53 - 1
#: Epoch, time, window, then outcome and operation of each line.
ENTRIES = [
    (1, 1000, 1, ["+ o - alice - 0 USD", "+ o - bob 50 0 USD", "= o - bob 50 0 USD", "! o - bob 5 0 USD"]),
    (1, 1000, 1, ["+ t T1 @mint alice 100 USD", "+ t T2 alice bob 30 USD", "i t T3 alice bob 171 USD"]),
    (1, 1007, 1, ["+ d T4 alice far 20 USD", "+ d T5 bob far 80 USD", "= t T1 @mint alice 100 USD"]),
    (
        2,
        2000,
        2,
        [
            "+ c 7.1 bob 0 90 USD",
            "a c 7.1 nobody 1 9 USD",
            "+ f - alice freeze 0 -",
            "f t T6 alice bob 1 USD",
        ],
    ),
    (2, 2001, 2, ["+ r T4 alice 3.0.c 20 USD", "! t T2 alice bob 31 USD", "z f - bob close 0 -"]),
    (
        2,
        2002,
        2,
        [
            "+ s 3 - - 0 -",
            "= s 3 - - 0 -",
            "+ t T7 bob @fees 40 USD",
            "+ f - bob close 0 -",
            "c c 7.2 bob 0 1 USD",
        ],
    ),
]


def nonce_of(seq: int) -> str:
    return f"{seq:016x}" if seq else ZERO_NONCE


def journal() -> list[bytes]:
    payloads = []
    for seq, (epoch, time_ms, window, rows) in enumerate(ENTRIES, 1):
        outcomes = "".join(row[0] for row in rows)
        header = f"{seq} {nonce_of(seq - 1)} {nonce_of(seq)} {epoch} {time_ms} {window} {outcomes}\n"
        payloads.append((header + "".join(row[2:] + "\n" for row in rows)).encode())
    return payloads


def fold(payloads: list[bytes]) -> PartitionState:
    state = PartitionState()
    for payload in payloads:
        apply_payload(state, payload)
    state.check()
    return state


def remembered(transfer: str, answer: str) -> dict[str, str]:
    """The field of `seen` for a transfer. `transfer`: payer and id. `answer`: outcome, seq and idx, and the body."""
    payer, transaction = transfer.split(" ")
    place, body = answer[1:].split(" ", 1)
    seq, idx = map(int, place.split("."))
    record = TransferRecord(answer[0], transfer_fingerprint(payer, body), seq, idx)
    return {transfer_field(payer, transaction): record.text()}


def test_the_state_the_journal_adds_up_to() -> None:
    state = fold(journal())
    assert redis_image(state) == {
        "meta": {
            "seq": "6",
            "nonce": nonce_of(6),
            "clock": "2002",
            "window": "2",
            "currencies": "USD",
            "flagged": "1",
        },
        "flags": {"alice": "F", "bob": "C USD=50"},
        "balance:USD": {"alice": "70", "bob": "0", "@mint": "-100", "@transit": "-10", "@fees": "40"},
        "seen:1": {
            **remembered("@mint T1", "+2.0 alice 100 USD"),
            **remembered("alice T2", "+2.1 bob 30 USD"),
            **remembered("alice T3", "i2.2 bob 171 USD"),
            **remembered("alice T4", "c3.0 far 20 USD"),
            **remembered("bob T5", "+3.1 far 80 USD"),
        },
        "seen:2": {
            **remembered("alice T6", "f4.3 bob 1 USD"),
            **remembered("bob T7", "+6.2 @fees 40 USD"),
            "7.": "bAA+bABacAAc",
        },
    }
    assert state.epoch == 2
    assert state.books() == {"USD": 0}
    assert state.in_transit() == {"USD": -10}
    assert state.balance("alice", "USD") == 70
    assert state.balance("alice", "EUR") is None
    assert state.balance("@mint", "EUR") == 0
    assert (state.status("alice"), state.status("bob"), state.status("carol")) == ("F", "C", "A")
    assert (state.limit("bob", "USD"), state.limit("bob", "EUR"), state.limit("carol", "USD")) == (50, 0, 0)
    assert repr(state) == "<PartitionState seq=6 epoch=2 window=2 currencies=USD open=0>"


def test_the_open_set_holds_entries_and_their_refunds() -> None:
    assert redis_image(fold(journal()[:5]))["open"] == {"3": "3", "3.0": "3"}


def test_entries_parsed_or_not_fold_the_same() -> None:
    state = PartitionState()
    for payload in journal():
        apply_entry(state, parse_entry(payload))
    assert redis_image(state) == redis_image(fold(journal()))


def test_an_image_is_a_state() -> None:
    for count in range(len(ENTRIES) + 1):
        state = fold(journal()[:count])
        again = state_of_image(redis_image(state), state.epoch)
        for payload in journal()[count:]:
            apply_payload(again, payload)
        assert redis_image(again) == redis_image(fold(journal()))


def test_an_empty_partition() -> None:
    assert redis_image(PartitionState()) == {
        "meta": {
            "seq": "0",
            "nonce": ZERO_NONCE,
            "clock": "0",
            "window": "1",
            "currencies": "",
        }
    }


def test_digests_differ_when_anything_does() -> None:
    image = redis_image(fold(journal()[:5]))
    lines = list(image_lines(image))
    assert lines == sorted(lines)
    assert image_digest(image) == image_digest(dict(reversed(image.items())))
    digests = {image_digest(image)}
    for key, fields in image.items():
        for name in fields:
            changed = image | {key: fields | {name: fields[name] + "0"}}
            dropped = image | {key: {other: value for other, value in fields.items() if other != name}}
            digests |= {image_digest(changed), image_digest(dropped)}
    assert len(digests) == 1 + 2 * sum(len(fields) for fields in image.values())


def test_any_other_outcome_is_corruption() -> None:
    """G6: one changed character in the recorded outcomes makes replay fail, and name the place."""
    payloads = journal()
    for at, payload in enumerate(payloads):
        header, operations = parse_header(payload), body_of(payload)
        for index, recorded in enumerate(header.outcomes):
            for other in sorted({outcome.value for outcome in Outcome} - {recorded}):
                outcomes = header.outcomes[:index] + other + header.outcomes[index + 1 :]
                first = payload.split(b"\n", 1)[0].rpartition(b" ")[0] + f" {outcomes}\n".encode()
                with pytest.raises(Corruption) as error:
                    fold([*payloads[:at], first + operations])
                expected = (
                    f"entry {at + 1}: operation {index} must come out as {recorded!r}, recorded is {other!r}"
                )
                assert str(error.value).startswith(expected)


OTHER_TEXT = [
    # what, seq, old, new, words of the error
    (
        "overdrawn by a larger amount",
        2,
        b"alice bob 30",
        b"alice bob 101",
        "operation 1 must come out as 'i'",
    ),
    ("a decline made affordable", 2, b"alice bob 171", b"alice bob 70", "operation 2 must come out as '\\+'"),
    ("amount zero", 2, b"alice bob 30", b"alice bob 0", "operation 1 is malformed"),
    ("amount negative", 2, b"alice bob 30", b"alice bob -30", "not an operation"),
    ("amount beyond the bounds", 3, b"far 20", b"far 9007199254740992", "operation 0 is malformed"),
    ("credit beyond the bounds", 4, b"0 90", b"0 9007199254740992", "operation 0 is malformed"),
    ("refund of zero", 5, b" 20 USD", b" 0 USD", "operation 0 is malformed"),
    ("limit beyond the bounds", 1, b"bob 50", b"bob 9007199254740992", "operation 1 is malformed"),
    ("no number", 2, b"alice bob 30", b"alice bob x", "not an operation"),
    ("unknown kind", 2, b"t T2", b"x T2", "operation 1 is malformed"),
    ("unknown flag", 4, b"freeze", b"melt", "operation 2 is malformed"),
    ("field missing", 2, b"alice bob 30 USD", b"alice bob 30", "not an operation"),
    ("field too many", 2, b"alice bob 30 USD", b"alice bob 30 USD USD", "not an operation"),
    ("to the payer itself", 2, b"alice bob 30", b"alice alice 30", "operation 1 is malformed"),
    ("debit of transit", 3, b"T4 alice", b"T4 @transit", "operation 0 is malformed"),
    ("credit of transit", 4, b"7.1 bob", b"7.1 @transit", "operation 0 is malformed"),
    ("refund of transit", 5, b"T4 alice", b"T4 @transit", "operation 0 is malformed"),
    ("another account", 2, b"alice bob 30", b"alice eve 30", "operation 1 must come out as 'a'"),
    ("another currency", 2, b"alice bob 30 USD", b"alice bob 30 EUR", "operation 1 must come out as 'a'"),
    ("another transaction", 3, b"t T1", b"t T9", "operation 2 must come out as '\\+'"),
    ("not ASCII", 2, b"bob 30", b"b\xffb 30", "not an operation"),
    ("one line less", 6, b"s 3 - - 0 -\n", b"", "4 operations, 5 outcomes"),
    ("one line more", 6, b"s 3 - - 0 -\ns", b"s 3 - - 0 -\ns 3 - - 0 -\ns", "6 operations, 5 outcomes"),
]


@pytest.mark.parametrize(
    ("seq", "old", "new", "words"), [row[1:] for row in OTHER_TEXT], ids=[row[0] for row in OTHER_TEXT]
)
def test_an_entry_whose_text_was_changed(seq: int, old: bytes, new: bytes, words: str) -> None:
    payloads = journal()
    changed = payloads[seq - 1].replace(old, new, 1)
    assert changed != payloads[seq - 1]
    state = fold(payloads[: seq - 1])
    with pytest.raises(Corruption, match=words) as error:
        apply_payload(state, changed)
    assert f"entry {seq}" in str(error.value)


def test_swapped_lines() -> None:
    payloads = journal()
    swapped = 0
    for at, payload in enumerate(payloads):
        header, *lines, end = payload.split(b"\n")
        for i in range(len(lines) - 1):
            outcomes = parse_header(payload).outcomes
            if outcomes[i] == outcomes[i + 1]:
                continue
            other = [*lines[:i], lines[i + 1], lines[i], *lines[i + 2 :]]
            if other == lines:
                continue
            swapped += 1
            with pytest.raises(Corruption, match=f"entry {at + 1}: operation"):
                fold([*payloads[:at], b"\n".join([header, *other, end])])
    assert swapped >= 8


CHAIN = [
    # what, seq of the entry, header instead: seq, previous nonce, epoch, time, window; words of the error
    ("seq repeated", 3, (2, nonce_of(2), 1, 1007, 1), "entry 2 follows entry 2"),
    ("seq left out", 3, (4, nonce_of(2), 1, 1007, 1), "entry 4 follows entry 2"),
    ("seq zero", 1, (0, ZERO_NONCE, 1, 1000, 1), "entry 0 follows entry 0"),
    ("another previous nonce", 3, (3, nonce_of(9), 1, 1007, 1), "previous nonce"),
    ("nonce of the entry before last", 3, (3, nonce_of(1), 1, 1007, 1), "previous nonce"),
    ("epoch backwards", 5, (5, nonce_of(4), 1, 2001, 2), "epoch 1 follows epoch 2"),
    ("time backwards", 3, (3, nonce_of(2), 1, 999, 1), "time 999 follows time 1000"),
    ("window backwards", 5, (5, nonce_of(4), 2, 2001, 1), "window 1 follows window 2"),
    ("window left out", 3, (3, nonce_of(2), 1, 1007, 3), "window 3 follows window 1"),
    ("first window is not 1", 1, (1, ZERO_NONCE, 1, 1000, 2), "window 2 follows window 1"),
    ("first window is 0", 1, (1, ZERO_NONCE, 1, 1000, 0), "window 0 follows window 1"),
]


@pytest.mark.parametrize(("at", "header", "words"), [row[1:] for row in CHAIN], ids=[row[0] for row in CHAIN])
def test_an_entry_that_breaks_the_chain(at: int, header: tuple[int, str, int, int, int], words: str) -> None:
    """G7: it is refused, and the state does not change."""
    payloads = journal()
    state = fold(payloads[: at - 1])
    before = redis_image(state)
    seq, prev_nonce, epoch, time_ms, window = header
    payload = payloads[at - 1]
    recorded, operations = parse_header(payload), body_of(payload)
    first = f"{seq} {prev_nonce} {recorded.nonce} {epoch} {time_ms} {window} {recorded.outcomes}\n"
    with pytest.raises(Corruption, match=words):
        apply_payload(state, first.encode() + operations)
    assert redis_image(state) == before


def test_an_entry_left_out_or_repeated_or_moved() -> None:
    payloads = journal()
    for at in range(len(payloads) - 1):
        with pytest.raises(Corruption):
            fold(payloads[:at] + payloads[at + 1 :])
        with pytest.raises(Corruption):
            fold(payloads[: at + 1] + payloads[at:])
        with pytest.raises(Corruption):
            fold([*payloads[:at], payloads[at + 1], payloads[at], *payloads[at + 2 :]])


def test_an_entry_without_effect_is_corruption() -> None:
    state = fold(journal())
    first = f"7 {nonce_of(6)} {nonce_of(7)} 2 2003 2 =!a\n"
    lines = "t T7 bob @fees 40 USD\nt T7 bob @fees 51 USD\nf - nobody freeze 0 -\n"
    with pytest.raises(Corruption, match="no operation has an effect"):
        apply_payload(state, (first + lines).encode())


@pytest.mark.parametrize(
    ("account", "minor", "line", "words"),
    [
        ("bob", MAX + 5, "t T9 bob alice 1 USD", "leaves the bounds"),
        ("@mint", -MAX - 5, "t T9 alice @mint 1 USD", "leaves the bounds"),
        ("alice", -60, "c 8.1 alice 0 1 USD", "under its limit"),
    ],
)
def test_a_damaged_balance_is_noticed_when_it_is_touched(
    account: str, minor: int, line: str, words: str
) -> None:
    """G3, G12: the check of all balances notices it too, touched or not."""
    state = fold(journal()[:3])
    state.balances["USD"]["alice"] += 100
    state.balances["USD"]["@mint"] -= 100
    state.balances["USD"]["@x"] = state.balances["USD"][account] - minor
    state.balances["USD"][account] = minor
    payload = f"4 {nonce_of(3)} {nonce_of(4)} 2 2000 2 +\n{line}\n".encode()
    with pytest.raises(Corruption, match=r"bounds|limit"):
        state.check()
    with pytest.raises(Corruption, match=words):
        apply_payload(state, payload)


def test_books_that_do_not_balance_are_noticed() -> None:
    """G2: the check of all balances notices them."""
    state = fold(journal())
    state.balances["USD"]["alice"] += 1
    with pytest.raises(Corruption, match="books of USD sum to 1 after entry 6"):
        state.check()


def test_a_rule_that_makes_money_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """G2: the audit of every entry notices it: it does not trust the rules."""
    move = Batch.move

    def crooked(
        batch: Batch, payer: str, paid: int, payee: str, got: int, amount: int, currency: str
    ) -> None:
        move(batch, payer, paid, payee, got + 1, amount, currency)

    monkeypatch.setattr(Batch, "move", crooked)
    with pytest.raises(Corruption, match="entry 2: books of USD sum to"):
        fold(journal())


@pytest.mark.parametrize(
    "text", ["A", "F", "C", "A USD=500", "F JPY=1 USD=9007199254740991", "F A=17", "F F=1 USD=5"]
)
def test_flags_round_trip(text: str) -> None:
    assert Flags.parse(text).text() == text
