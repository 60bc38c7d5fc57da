"""What decides changes with time; entries of before come out as they were recorded (G6), and nothing else does."""

import re
from zlib import crc32

import pytest
from lua.cases import MAX, SETUP, rows
from lua.partition import LuaPartition

from wallet_engine.domain.columns import pack
from wallet_engine.domain.entry import RULES, parse_header
from wallet_engine.domain.errors import Corruption, NewerFormat
from wallet_engine.domain.limits import STRIPE_LIMB_MINOR
from wallet_engine.domain.memory import transfer_field
from wallet_engine.domain.operation import parse_operation
from wallet_engine.domain.oracle import apply_payload
from wallet_engine.domain.oracle_state import PartitionState, redis_image
from wallet_engine.engine.reads import _minor
from wallet_engine.redis_store.scripts import load_script

TXID = "AAAAAAAAAAAAAAAAAAAAAQ"
#: The first rules of a pair, its outcome by them and by the next, and the operation, in a partition after `SETUP`.
BOUNDS = [
    (1, "l", "+", "t T1 @bottom alice 1 USD"),
    (1, "l", "+", "d T1 @bottom far 1 USD"),
    (1, "l", "+", f"t T1 rich @top {MAX} USD"),
    (1, "l", "+", f"c 9.1 @top 0 {MAX} USD"),
    (1, "+", "p", "f - line close 0 -"),
    (2, "a", "g", "t T1 alice nobody 1 USD"),
    (2, "c", "k", "t T1 alice gone 1 USD"),
    (2, "f", "q", "t T1 alice snow 1 USD"),
    (2, "a", "g", "c 9.1 nobody 0 1 USD"),
    (2, "f", "q", "c 9.1 ice 0 1 USD"),
]


def prepared(partition: LuaPartition) -> list[bytes]:
    """The entries of a partition in which `@bottom` has -MAX, `@top` 1, and a debit is open; it is empty now."""
    for batch in [*SETUP, ["+ t S5 alice @top 1 USD"], ["+ d S6 alice far 1 USD"]]:
        _, outcomes, lines = rows(batch)
        assert partition.apply(lines)[4] == outcomes
    payloads = partition.payloads()
    partition.empty("recovering")
    return payloads


def next_entry(payloads: list[bytes], rows_of_entry: list[str], rules: int, **changed: int) -> bytes:
    """The entry after these; `changed` are fields of its header that are not as in the entry before."""
    last = parse_header(payloads[-1])
    nonce = f"{last.seq + 1:016x}"
    outcomes = "".join(row[0] for row in rows_of_entry)
    header = last._replace(
        seq=last.seq + 1, prev_nonce=last.nonce, nonce=nonce, outcomes=outcomes, rules=rules, **changed
    )
    return f"{header.text()}\n".encode() + pack([parse_operation(row[2:]) for row in rows_of_entry]).columns


def comes_out(
    partition: LuaPartition, state: PartitionState, payload: bytes, told: str, outcome: str
) -> None:
    """An entry whose first operation must come out as `outcome` is replayed by script and oracle, if it tells that."""
    if told == outcome:
        apply_payload(state, payload)
        assert partition.replay(payload)[0] == "OK"
        assert partition.image() == redis_image(state)
    else:
        with pytest.raises(Corruption, match=f"must come out as '{outcome}', recorded is '{told}'"):
            apply_payload(state, payload)
        assert partition.replay(payload) == ["DIFFERS", f"{outcome}+"]


def fold(payloads: list[bytes]) -> PartitionState:
    state = PartitionState()
    for payload in payloads:
        apply_payload(state, payload)
    state.check()
    return state


def test_script_and_oracle_know_the_same_rules() -> None:
    found = re.search(r"^local RULES = ' (\d)'", load_script("apply").text, re.MULTILINE)
    assert found
    assert int(found[1]) == RULES


@pytest.mark.parametrize(("first", "before", "since", "line"), BOUNDS, ids=[row[3] for row in BOUNDS])
def test_an_entry_of_before_comes_out_as_it_was_recorded(
    partition: LuaPartition, first: int, before: str, since: str, line: str
) -> None:
    """In the oracle and in the replay alike, and neither takes one outcome for the other."""
    payloads = prepared(partition)
    for payload in payloads:
        assert partition.replay(payload)[0] == "OK"
    stands = partition.image()
    pay = "+ t T7 alice bob 1 USD"
    for rules, right, wrong in ((first, before, since), (first + 1, since, before)):
        refused = next_entry(payloads, [f"{wrong} {line}", pay], rules)
        words = re.escape(f"must come out as '{right}', recorded is '{wrong}'")
        with pytest.raises(Corruption, match=words):
            fold([*payloads, refused])
        assert partition.replay(refused) == ["DIFFERS", right + "+"]
        assert partition.image() == stands, "nothing of it was written"
    for rules, outcome in ((first, before), (first + 1, since)):
        partition.empty("recovering")
        whole = [*payloads, next_entry(payloads, [f"{outcome} {line}", pay], rules)]
        for payload in whole:
            assert partition.replay(payload)[:5][0] == "OK"
        assert partition.image() == redis_image(fold(whole))


@pytest.mark.parametrize("line", ["t T1 alice nobody 1 USD", "c 9.1 nobody 0 1 USD"])
def test_so_does_one_of_a_partition_without_flags(partition: LuaPartition, line: str) -> None:
    """There the script decides without what flags say."""
    before = ["+ o - alice - 0 USD", "+ t S1 @mint alice 5 USD"]
    assert partition.apply([row[2:] for row in before])[4] == "++"
    payloads = partition.payloads()
    for rules, outcome in ((2, "a"), (3, "g")):
        partition.empty("recovering")
        whole = [*payloads, next_entry(payloads, [f"{outcome} {line}"], rules)]
        assert [partition.replay(payload)[0] for payload in whole] == ["OK", "OK"]
        assert partition.image() == redis_image(fold(whole))


def test_an_entry_of_later_rules_is_not_guessed_at(partition: LuaPartition) -> None:
    payloads = prepared(partition)
    for later in (RULES + 1, 12):
        with pytest.raises(
            NewerFormat, match=rf"is of rules {later}, and this program knows them up to {RULES}:"
        ):
            fold([*payloads, next_entry(payloads, ["+ t T7 alice bob 1 USD"], later)])


@pytest.mark.parametrize(
    ("recorded", "line"),
    [
        ("+", f"t T1 alice bob {MAX} USD"),
        ("i", "t T1 alice bob 1 USD"),
        ("=", "s 3 - - 0 -"),
        ("+", "f - gone close 0 -"),
    ],
)
def test_an_entry_that_comes_out_otherwise_changes_nothing(
    partition: LuaPartition, recorded: str, line: str
) -> None:
    """G6: nor does anything after it, so the partition never stands where its journal does."""
    payloads = prepared(partition)
    for payload in payloads:
        partition.replay(payload)
    before = partition.image()
    damaged = next_entry(payloads, [f"{recorded} {line}"], RULES)
    after = next_entry([damaged], ["+ t T8 alice bob 1 USD"], RULES)
    for _ in range(2):
        assert partition.replay(damaged)[0] == "DIFFERS"
        assert partition.replay(after)[0] == "MALFORMED"
        assert partition.image() == before


def test_where_metadata_are_said_is_kept_by_later_rules_alone(partition: LuaPartition) -> None:
    """What has decided before knew of no such key: neither the oracle nor a replay makes one of its entries."""
    payloads = prepared(partition)
    gold, tin = ' {"meta":{"tier":"gold"}}', ' {"meta":{"tier":"tin"}}'
    changes = [f"+ o - fresh - 0 USD{gold}", f"+ a - alice -|- 0 USD{tin}", "+ o - plain - 0 USD"]
    for rules, kept in ((3, None), (4, {"fresh": "6.0", "alice": "6.1"})):
        partition.empty("recovering")
        whole = [*payloads, next_entry(payloads, changes, rules)]
        for payload in whole:
            assert partition.replay(payload)[0] == "OK"
        assert partition.image().get("noted") == kept
        assert partition.image() == redis_image(fold(whole))


def test_a_system_account_beyond_a_number_is_read_whole(partition: LuaPartition) -> None:
    script = load_script("read_account")
    partition.client.script_load(script.text)
    keys = partition.keys
    assert partition.apply(["o - rich - 0 USD"])[4] == "+"
    state = PartitionState()
    for n in range(5):
        assert partition.apply([f"t A{n} @bank @top {MAX} USD", f"t B{n} @top @deep {n + 1} USD"])[4] == "++"
    for payload in partition.payloads():
        apply_payload(state, payload)
    for account, expected in (("@bank", -5 * MAX), ("@top", 5 * MAX - 15), ("@deep", 15), ("rich", 0)):
        assert state.balance(account, "USD") == expected
        names = (keys.meta, keys.flags, keys.noted, keys.balance("USD"))
        reply = partition.client.evalsha(script.sha, len(names), *names, 1, account, "USD")
        assert _minor(reply[5].encode()) == expected
    fields = partition.image()["balance:USD"]
    assert (fields["@bank+"], fields["@top+"], "@deep+" in fields) == ("-4", "4", False)
    assert int(fields["@bank"]) - 4 * STRIPE_LIMB_MINOR == -5 * MAX


#: Two names of one CRC-32, which by rules 1 were one payer of an id.
ONE, OTHER = "5q6fbln2umfx", "u8riu4u83rsp"


def columns_of_before(payload: bytes) -> bytes:
    """An entry as it was packed when a payer was the CRC-32 of its name."""
    for payer in (ONE, OTHER):
        field = transfer_field(payer, TXID)
        payload = payload.replace(field.encode(), f"{TXID}{crc32(payer.encode()):08x}".encode())
    return payload


def test_a_conflict_of_two_names_stands_in_entries_of_before(partition: LuaPartition) -> None:
    """G4, G6: it is decided again as it was; what comes later takes the two for two."""
    opened = partition.apply([f"o - {name} - 0 USD" for name in (ONE, OTHER, "bob")])
    assert opened[4] == "+++"
    assert partition.apply([f"t S{n} @mint {name} 9 USD" for n, name in enumerate((ONE, OTHER))])[4] == "++"
    payloads = partition.payloads()
    lines = [f"t {TXID} {payer} bob 5 USD" for payer in (ONE, OTHER)]
    for made in (
        [f"+ {lines[0]}", f"! {lines[1]}"],
        [f"! {lines[1]}", f"= {lines[0]}", "+ t T9 @mint bob 1 USD"],
        ["+ t T8 @mint bob 1 USD"],
    ):
        payloads.append(columns_of_before(next_entry(payloads, made, 1)))
    assert crc32(ONE.encode()) == crc32(OTHER.encode())
    assert f"{TXID}{crc32(ONE.encode()):08x}".encode() in payloads[-2]
    partition.empty("recovering")
    for payload in payloads:
        assert partition.replay(payload)[0] == "OK"
    assert partition.image() == redis_image(fold(payloads))
    partition.meta(state="live")
    assert partition.apply(lines)[4] == "=+"
    nobody_before = next_entry(payloads[:2], [f"! {lines[1]}", "+ t T9 @mint bob 1 USD"], 1)
    with pytest.raises(Corruption, match="must come out as '\\+', recorded is '!'"):
        fold([*payloads[:2], nobody_before])
