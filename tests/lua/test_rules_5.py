"""Rules 5: an undone debit changes only what is remembered of itself, and the expiry comes before a busy hold.

`tests/golden/rules4` is a journal that a program of rules 4 has decided: in it ids are used again after they were
forgotten, while their first debit, capture or refund is still open.
"""

import hashlib
import re
from collections import Counter
from pathlib import Path

import pytest
from lua.cases import SETUP, rows
from lua.partition import LuaPartition
from lua.test_rules import comes_out, fold, next_entry, prepared

from wallet_engine.domain.entry import body_of, parse_header
from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.memory import TransferRecord, transfer_field
from wallet_engine.domain.oracle import apply_payload
from wallet_engine.domain.oracle_state import (
    PartitionState,
    RedisImage,
    image_digest,
    redis_image,
    state_of_image,
)
from wallet_engine.journal.reader import read

GOLDEN = Path(__file__).parents[1] / "golden" / "rules4"
#: Partition -> SHA-256 of the digests of its images after every entry, as oracle and script of rules 4 had them.
IMAGES = {
    0: "6f18e5ccf4f98bf4cbb2e0cd25c8e5090b107c7f002609f1ae4cfba5ab52fcda",
    1: "0154135e5c5338175dd9029bc32ccdbc8347bfdecee84495cde5be782a822b74",
}
HOUR_MS = 3_600_000
HELD = transfer_field("alice", "T1")
FAR = transfer_field("far", "T1")


def golden(partition: int) -> list[bytes]:
    return [record.payload for record in read(GOLDEN) if record.partition == partition]


def by_rules(payload: bytes, rules: int) -> bytes:
    header = parse_header(payload)._replace(rules=rules)
    return f"{header.text()}\n".encode() + body_of(payload)


@pytest.mark.parametrize("number", IMAGES)
def test_g6_entries_of_rules_4_come_out_as_they_did_then(partition: LuaPartition, number: int) -> None:
    """In the oracle and in the replay, after every entry."""
    partition.empty("recovering")
    state, folded, replayed = PartitionState(), hashlib.sha256(), hashlib.sha256()
    for payload in golden(number):
        assert parse_header(payload).rules == 4
        apply_payload(state, payload)
        assert partition.replay(payload)[0] == "OK"
        folded.update(image_digest(redis_image(state)).encode())
        replayed.update(image_digest(partition.image()).encode())
    assert folded.hexdigest() == replayed.hexdigest() == IMAGES[number]


def test_rules_5_decide_some_of_them_otherwise() -> None:
    """Or the journal would show nothing: answers, refunded sums, holds, and refusals of captures."""
    found: Counter[str] = Counter()
    for number in IMAGES:
        state = PartitionState()
        for payload in golden(number):
            otherwise = state_of_image(redis_image(state), state.epoch)
            apply_payload(state, payload)
            try:
                apply_payload(otherwise, by_rules(payload, 5))
            except Corruption as error:
                match = re.search("must come out as '(.)', recorded is '(.)'", str(error))
                assert match
                found[match[2] + match[1]] += 1
            else:
                found.update(_differing(redis_image(state), redis_image(otherwise)))
    assert found.keys() == {"an answer", "a total", "hold", "held:USD", "balance:USD", "bx"}, found


def _differing(image: RedisImage, other: RedisImage) -> set[str]:
    assert image.keys() == other.keys()
    found = {key for key in image if image[key] != other[key] and not key.startswith("seen")}
    for key in image:
        if key.startswith("seen"):
            fields = {field for field, _ in image[key].items() ^ other[key].items()}
            found |= {"a total" if field.startswith("r.") else "an answer" for field in fields}
    return found


@pytest.mark.parametrize("beside", [[], ["h v T0 alice - 0 USD"]], ids=["plain text", "extended text"])
@pytest.mark.parametrize("in_window_before", [False, True])
def test_g4_a_repeat_is_told_its_own_answer(
    partition: LuaPartition, beside: list[str], in_window_before: bool
) -> None:
    """The refund of a debit whose id was forgotten and used again; the answer of the debit itself does change."""
    for batch in [
        *SETUP,
        ["+ d T1 alice far 5 USD", "+ d T2 alice far 6 USD"],
        ["rotate", "+ t T8 alice bob 1 USD"],
        ["rotate", "+ t T1 alice bob 7 USD"],
        [*(["rotate"] if in_window_before else []), "+ d T3 alice far 8 USD"],
    ]:
        rotates, outcomes, lines = rows(batch)
        assert partition.apply(lines, rotate=rotates)[4] == outcomes
    undone = ["+ r T1 alice 4.0.c 5 USD", "+ r T2 alice 4.1.c 6 USD", "+ r T3 alice 7.0.a 8 USD", *beside]
    _, outcomes, lines = rows(undone)
    assert partition.apply(lines)[4] == outcomes
    reply = partition.apply(["t T1 alice bob 7 USD", "d T3 alice far 8 USD"])
    assert reply[4] == "=="
    assert [detail.rsplit(" ", 1)[0] for detail in reply[5:]] == ["0 + 6.0", "1 a 7.0"]
    assert partition.apply(["d T2 alice far 6 USD"])[4] == "+", "forgotten, and nothing was made of it"
    assert partition.client.hget(partition.keys.balance("USD"), "alice") == str(1000 - 1 - 7 - 6)


#: What is open, what comes after it (two windows later), the entry that undoes it, and what is then remembered by
#: rules 4 and by rules 5: key, field, and the beginning of the record.
UNDONE = [
    (
        ["+ d T1 alice far 5 USD"],
        ["+ t T1 alice bob 7 USD"],
        "+ r T1 alice 6.0.c 5 USD",
        ("seen:3", HELD, "c", "+"),
    ),
    (
        [
            f"+ h T1 alice -|{HOUR_MS} 400 USD",
            f"+ q T2 alice far|{HELD}|p|150 150 USD",
            "+ v T1 alice - 0 USD",
        ],
        [f"+ h T1 alice -|{HOUR_MS} 300 USD"],
        f"+ u T2 alice 6.1.c|{HELD} 150 USD",
        ("hold", HELD, "O alice - USD 300 -150 0 -1 ", "O alice - USD 300 0 0 0 "),
    ),
    (
        ["+ c 3.17 bob 5 400 USD", f"+ z T2 bob far|{FAR}|3.17.5|c|400|- 400 USD"],
        ["+ c 3.99 bob 0 400 USD", f"+ z T3 bob far|{FAR}|3.99.0|c|400|- 400 USD"],
        f"+ j T2 bob 6.1.c|{FAR} 400 USD",
        ("seen:3", f"r.{FAR}", "0", "400"),
    ),
]


@pytest.mark.parametrize(("opens", "later", "undoes", "remembered"), UNDONE, ids=["r", "u", "j"])
def test_an_entry_that_undoes_is_replayed_by_its_own_rules(
    partition: LuaPartition,
    opens: list[str],
    later: list[str],
    undoes: str,
    remembered: tuple[str, str, str, str],
) -> None:
    """G6, whichever rules have decided the entries before it."""
    before = prepared(partition)
    for rules_before, rules in ((4, 4), (4, 5), (5, 5)):
        payloads = list(before)
        for window, made in ((1, opens), (2, ["+ n api - - 0 -"]), (3, later)):
            payloads.append(next_entry(payloads, made, rules_before, window=window))
        payloads.append(next_entry(payloads, [undoes], rules))
        partition.empty("recovering")
        for payload in payloads:
            assert partition.replay(payload)[0] == "OK"
        image = partition.image()
        assert image == redis_image(fold(payloads))
        key, field, by_4, by_5 = remembered
        assert image[key][field].startswith(by_4 if rules == 4 else by_5), (rules, image[key][field])


@pytest.mark.parametrize("line", [f"i T3 alice {HELD} 1 USD", f"k T3 alice bob|{HELD}|f|- 399 USD"], ids="ik")
def test_a_capture_after_the_expiry_is_late_whatever_is_under_way(partition: LuaPartition, line: str) -> None:
    """And is told so for good; rules 4 said that it may be asked again. A void and the expiry wait as before."""
    for batch in SETUP:
        assert partition.apply(rows(batch)[2])[0] == "OK"
    assert partition.apply([f"h T1 alice -|{HOUR_MS} 400 USD"])[4] == "+"
    assert partition.apply([f"q T2 alice far|{HELD}|f|1 1 USD"])[4] == "+"
    assert partition.apply([line, "n api - - 0 -"])[4] == "b+", "not overdue yet"
    partition.meta(clock=partition.now_ms() + HOUR_MS)
    assert partition.apply([line, "v T1 alice - 0 USD", "e T1 alice - 0 USD"])[4] == "xb="
    assert partition.apply([line])[4:] == ["=", "0 x 7.0 0"]
    payloads = partition.payloads()
    partition.empty("recovering")
    for payload in payloads:
        assert partition.replay(payload)[0] == "OK"
    before, late = fold(payloads[:-1]), parse_header(payloads[-1])
    for rules, outcome, other in ((4, "b", "x"), (5, "x", "b")):
        for told in (outcome, other):
            rows_of_entry = [f"{told} {line}", "+ n api - - 0 -"]
            payload = next_entry(payloads[:-1], rows_of_entry, rules, time_ms=late.time_ms)
            state = state_of_image(redis_image(before), before.epoch)
            _stand_at(partition, payloads[:-1])
            comes_out(partition, state, payload, told, outcome)


def _stand_at(partition: LuaPartition, payloads: list[bytes]) -> None:
    partition.empty("recovering")
    for payload in payloads:
        assert partition.replay(payload)[0] == "OK"


def test_an_undone_debit_changes_the_answer_of_a_place_beyond_one_digit(partition: LuaPartition) -> None:
    """Its seq and idx take several digits of a record."""
    for batch in SETUP:
        assert partition.apply(rows(batch)[2])[0] == "OK"
    partition.meta(seq=4095)
    partition.client.delete(partition.keys.journal)
    debits = [f"d {n:022} alice far 1 USD" for n in range(70)]
    assert partition.apply(debits)[1] == 4096
    assert partition.apply([f"r {n:022} alice 4096.{n}.c 1 USD" for n in (0, 63, 64)])[4] == "+++"
    for n in (0, 1, 63, 64, 65):
        text = partition.client.hget(partition.keys.seen(1), transfer_field("alice", f"{n:022}"))
        record = TransferRecord.parse(text)
        assert (record.outcome, record.seq, record.idx) == ("c" if n in (0, 63, 64) else "+", 4096, n)
