"""The short memory of transfers in the script (G4): one field for two payers, equal fingerprints, big places."""

import pytest
from lua.cases import MAX
from lua.partition import LuaPartition

from wallet_engine.domain.memory import TransferRecord, credit_memory, transfer_field, transfer_fingerprint
from wallet_engine.redis_store.scripts import load_script

TXID = "AAAAAAAAAAAAAAAAAAAAAQ"
#: Two payers who share a field where they use this id, and two whose names have one CRC-32.
ONE, OTHER = "payer-789353", "payer-14654864"
ONE_CRC = ("5q6fbln2umfx", "u8riu4u83rsp")
#: Two receivers of 5 USD from alice with the same fingerprint.
HERE, THERE = "farsedbrokw", "faroiypeckh"


def funded(partition: LuaPartition, *accounts: str) -> LuaPartition:
    assert partition.apply([f"o - {account} - 0 USD" for account in accounts])[4] == "+" * len(accounts)
    fund = [f"t FUND{n:018} @bank {account} 1000 USD" for n, account in enumerate(accounts)]
    assert partition.apply(fund)[4] == "+" * len(accounts)
    return partition


def seen(partition: LuaPartition) -> dict[str, str]:
    return partition.image().get("seen:1", {})


@pytest.mark.parametrize("kind", ["d", "t"])
def test_a_second_payer_of_a_field_is_a_conflict(partition: LuaPartition, kind: str) -> None:
    """In the same batch as in a later one, and nothing changes."""
    funded(partition, ONE, OTHER, "bob")
    lines = [f"{kind} {TXID} {payer} bob 5 USD" for payer in (ONE, OTHER)]
    assert partition.apply(lines)[4] == "+!"
    before = partition.image()
    assert partition.apply(lines[1:])[4] == "!"
    assert partition.image() == before
    assert before["balance:USD"][OTHER] == "1000"


@pytest.mark.parametrize("payers", [("alice", "bob"), ONE_CRC], ids=["any", "names of one CRC-32"])
def test_two_payers_may_use_the_same_id(partition: LuaPartition, payers: tuple[str, str]) -> None:
    """G4, whatever names they have chosen."""
    funded(partition, *payers)
    lines = [f"d {TXID} {payer} far 5 USD" for payer in payers]
    assert partition.apply(lines)[4] == "++"
    assert partition.apply(lines)[4] == "=="


def test_an_open_debit_is_not_driven_on_for_another_body_of_the_same_fingerprint(
    partition: LuaPartition,
) -> None:
    """No money follows from a fingerprint: not in the batch of the debit, not later, not for one of many entries."""
    assert transfer_fingerprint("alice", f"{HERE} 5 USD") == transfer_fingerprint("alice", f"{THERE} 5 USD")
    funded(partition, "alice", "bob")
    first, second = (f"d {TXID} alice {receiver} 5 USD" for receiver in (HERE, THERE))
    others = [f"d {n:022} bob far 1 USD" for n in range(70)]
    reply = partition.apply([*others, first, second, first])
    opened_ms = reply[3]
    assert reply[4] == "+" * 71 + "=="
    assert reply[5:] == ["71 ! 3.70 0", f"72 + 3.70 {opened_ms}"]
    for _ in range(2):
        reply = partition.apply([second, first, others[0], others[69], second])
        assert reply[4] == "====="
        assert reply[5:] == [
            "0 ! 3.70 0",
            f"1 + 3.70 {opened_ms}",
            f"2 + 3.0 {opened_ms}",
            f"3 + 3.69 {opened_ms}",
            "4 ! 3.70 0",
        ]
        for n in range(20):  # more entries than are held at a time
            partition.apply([f"d MORE{n:018} bob far 1 USD"])
    repeats = [f"d MORE{n:018} bob far 1 USD" for n in range(20)]
    details = partition.apply([*repeats, second, first])[5:]
    assert [detail.split(" ")[1:3] for detail in details[:20]] == [["+", f"{4 + n}.0"] for n in range(20)]
    assert details[20:] == ["20 ! 3.70 0", f"21 + 3.70 {opened_ms}"]


def test_an_open_debit_that_the_stream_lacks_is_not_said_to_be_young(partition: LuaPartition) -> None:
    funded(partition, "alice")
    debit = f"d {TXID} alice {HERE} 5 USD"
    assert partition.apply([debit])[4] == "+"
    partition.client.xtrim(partition.keys.journal, maxlen=0)
    assert partition.apply([debit])[4:] == ["=", "0 + 3.0 1"]


def test_a_transfer_of_an_open_entry_is_read_as_its_line(partition: LuaPartition) -> None:
    """By read_transfer, in one currency and in two, whatever stands before it in the entry."""
    funded(partition, "alice", "bob")
    assert partition.apply(["o - alice - 0 EUR", "o - carol - 0 USD"])[4] == "++"
    lines = [
        f"d {0:022} alice far 5 USD",
        f"t {1:022} alice bob 6 USD",
        "c 9.7 bob 3 2 USD",
        f"d {2:022} bob farther 7 USD",
        f"t {3:022} bob carol 8 USD",
        f"t {4:022} bob @fees 9 USD",
        f"d {5:022} @bank farthest {MAX} USD",
    ]
    script = load_script("read_transfer")
    partition.client.script_load(script.text)
    keys = partition.keys
    for number, last in enumerate(("USD", "EUR")):
        # The second time under other ids, and the last one in another currency.
        entry = [
            line.replace(" 0000", f" {number}000").replace(f"{MAX} USD", f"{MAX - number} {last}")
            for line in lines
        ]
        partition.apply(entry)
        for line in entry:
            kind, transaction, payer, *_ = line.split(" ")
            if kind in "dt":
                found = partition.client.evalsha(
                    *(script.sha, 5, keys.meta, keys.journal, keys.open, keys.seen(1), keys.seen(0)),
                    *(1, 1, transfer_field(payer, transaction)),
                )
                assert found[5] == line


def test_a_settled_debit_gives_its_answer(partition: LuaPartition) -> None:
    funded(partition, "alice")
    debit = f"d {TXID} alice {HERE} 5 USD"
    assert partition.apply([debit])[4] == "+"
    assert partition.apply(["s 3 - - 0 -"])[4] == "+"
    assert partition.apply([debit])[4:] == ["=", "0 + 3.0 0"]
    assert partition.apply([debit.replace(" 5 ", " 6 ")])[4:] == ["!"]


@pytest.mark.parametrize("seq", [1, 62, 63, 4094, 4095, 2**24 - 2, 2**30 - 2, MAX - 1])
def test_every_place_is_written_as_the_oracle_writes_it(partition: LuaPartition, seq: int) -> None:
    funded(partition, "alice")
    partition.meta(seq=seq)
    partition.client.delete(partition.keys.journal)
    lines = [f"d {n:022} alice far 1 USD" for n in range(130)]
    assert partition.apply(lines)[1] == seq + 1
    records = seen(partition)
    for idx in (0, 1, 63, 64, 65, 127, 128, 129):
        record = TransferRecord("+", transfer_fingerprint("alice", "far 1 USD"), seq + 1, idx)
        assert records[transfer_field("alice", f"{idx:022}")] == record.text()
    details = partition.apply([lines[129], lines[64]])[5:]
    assert [detail.split(" ")[2] for detail in details] == [f"{seq + 1}.129", f"{seq + 1}.64"]


def test_every_credit_is_remembered_as_the_oracle_remembers_it(partition: LuaPartition) -> None:
    funded(partition, "alice")
    before = seen(partition)
    credits = [
        (f"9.{seq}", idx) for seq in (1, 9, 10, 19, 20, 29, 30, 99_999, 10**15) for idx in (0, 63, 64, 1499)
    ]
    lines = [f"c {entry} {'alice' if idx else 'nobody'} {idx} 1 USD" for entry, idx in credits]
    assert partition.apply(lines)[4] == "g+++" * 9
    expected: dict[str, str] = {}
    for entry, idx in credits:
        field, mark = credit_memory(entry, idx)
        expected[field] = expected.get(field, "") + mark + ("+" if idx else "g")
    assert seen(partition) == {**before, **expected}
    details = partition.apply([*lines[::-1], "c 9.100000 alice 63 1 USD"])[4:]
    outcomes = ["+", "+", "+", "g"] * 9
    assert details == ["=" * 36 + "+", *(f"{n} {outcome}" for n, outcome in enumerate(outcomes))]


def test_a_refund_rewrites_the_answer_and_nothing_else(partition: LuaPartition) -> None:
    """Whatever stands before it in the batch: each operation of the memory takes its own fingerprint."""
    funded(partition, "alice", "bob")
    debits = [f"d {n:022} alice far {n + 1} USD" for n in range(3)]
    assert partition.apply(debits)[4] == "+++"
    before = seen(partition)
    refund = f"r {0:022} alice 3.0.a 1 USD"
    assert partition.apply([refund, f"t {TXID} alice bob 7 USD", *debits])[4] == "++==="
    after = seen(partition)
    field = transfer_field("alice", f"{0:022}")
    assert after.pop(field) == "a" + before.pop(field)[1:]
    paid = TransferRecord("+", transfer_fingerprint("alice", "bob 7 USD"), 4, 1).text()
    assert after == {**before, transfer_field("alice", TXID): paid}


@pytest.mark.parametrize("record_ends", ["", "AAAAAAA", "AAAAAAAAA", "AAAAAAAAAAAAAAAA"])
def test_ends_of_records_that_do_not_fit_the_operations_are_refused(
    partition: LuaPartition, record_ends: str
) -> None:
    funded(partition, "alice")
    before = partition.image()
    assert partition.apply([f"d {TXID} alice far 5 USD"], record_ends=record_ends)[0] == "MALFORMED"
    assert partition.image() == before
