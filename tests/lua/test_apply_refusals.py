"""Refusals of a whole batch: the right word, and nothing changed."""

import re
from typing import Any, Final

import pytest
from lua.cases import CASES, MAX, SETUP, rows
from lua.group_cases import GROUP_CASES
from lua.hold_cases import HOLD_CASES
from lua.limit_cases import LIMIT_CASES
from lua.partition import LuaPartition
from lua.return_cases import RETURN_CASES

from wallet_engine.domain.columns import pack
from wallet_engine.domain.entry import ZERO_NONCE
from wallet_engine.domain.kinds import KINDS
from wallet_engine.domain.limits import SCRIPT_OPERATIONS_MAX
from wallet_engine.domain.operation import parse_operation
from wallet_engine.redis_store.refusals import Meaning, refusal_inside

PAY = ["t T1 alice bob 1 USD"]
HOUR_MS = 3_600_000


@pytest.fixture
def prepared(partition: LuaPartition) -> LuaPartition:
    for batch in SETUP:
        assert partition.apply(rows(batch)[2])[0] == "OK"
    return partition


def assert_refused(partition: LuaPartition, refusal: list[Any], lines: list[str], **how: Any) -> None:
    before, entries = partition.image(), len(partition.payloads())
    assert partition.apply(lines, **how)[: len(refusal)] == refusal
    assert partition.image() == before
    assert len(partition.payloads()) == entries


ALL_CASES: Final = [*CASES, *HOLD_CASES, *RETURN_CASES, *GROUP_CASES, *LIMIT_CASES]
ALL_LINES: Final = [line for case in ALL_CASES for batch in case.batches for line in rows(batch)[2]]
#: Kind -> operations of it, one of those that differ in numbers alone.
LINES: Final = {
    letter: list({re.sub(r"[0-9]+", "0", line): line for line in ALL_LINES if line[0] == letter}.values())
    for letter in KINDS
}


@pytest.mark.parametrize("letter", [letter for letter, kind in KINDS.items() if kind.extended])
def test_the_plain_text_refuses_what_only_the_other_knows(prepared: LuaPartition, letter: str) -> None:
    """A service picks the text by what it sends: a batch that comes to the wrong one changes nothing."""
    assert LINES[letter]
    for line in LINES[letter]:
        assert_refused(prepared, ["MALFORMED", "operation 1"], [line], extended=False)
        assert_refused(prepared, ["MALFORMED", "operation 2"], [*PAY, line], extended=False)


def test_the_plain_text_knows_no_most(prepared: LuaPartition) -> None:
    assert_refused(prepared, ["MALFORMED", "operation 1"], ["o - carol -<50 0 USD"], extended=False)


@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_another_epoch(prepared: LuaPartition, epoch: int) -> None:
    prepared.meta(epoch=2)
    assert_refused(prepared, ["EPOCH", "2"], PAY, epoch=epoch)
    assert prepared.apply(PAY, epoch=2)[0] == "OK"


@pytest.mark.parametrize("state", ["moving", "recovering", "", "LIVE"])
def test_not_live(prepared: LuaPartition, state: str) -> None:
    prepared.meta(state=state)
    assert_refused(prepared, ["STATE", state], PAY)


def test_absent(partition: LuaPartition) -> None:
    """A Redis that lost its memory answers for nothing."""
    partition.client.delete(partition.keys.meta)
    assert partition.apply(PAY, window=1) == ["STATE", "absent"]
    assert partition.client.dbsize() == 0


def test_another_owner(prepared: LuaPartition) -> None:
    prepared.meta(owner="0" * 40)
    assert_refused(prepared, ["OWNER", "0" * 40], PAY)


def test_no_owner(prepared: LuaPartition) -> None:
    prepared.meta(owner="")
    assert_refused(prepared, ["OWNER", ""], PAY)


def test_stream_full(prepared: LuaPartition) -> None:
    """G10: the journal is too far behind. The length is looked at every 16 entries."""
    seq = filled(prepared, 0)
    assert_refused(prepared, ["FULL", seq], PAY, stream_entries_max=seq)
    assert prepared.apply(PAY, stream_entries_max=seq + 1)[0] == "OK"


def test_a_probe_finds_a_full_stream_whatever_its_seq(prepared: LuaPartition) -> None:
    """Others find it every 16 entries; what only asks must not be told "well" in between."""
    while (seq := int(prepared.image()["meta"]["seq"])) % 16 in (0, 15):
        prepared.apply([f"o - filler-{seq} - 0 USD"])
    assert_refused(prepared, ["FULL", seq], ["n doctor - - 0 -"], stream_entries_max=seq)
    assert prepared.apply(["n doctor - - 0 -"], stream_entries_max=seq + 1)[0] == "OK"


def filled(prepared: LuaPartition, more: int) -> int:
    """The seq at which the length is looked at next; `more` entries are made first."""
    begun = seq = int(prepared.image()["meta"]["seq"])
    while seq < begun + more or seq % 16:
        assert prepared.apply([f"o - filler-{seq} - 0 USD"])[0] == "OK"
        seq += 1
    return seq


ENDING = ["c 9.1 bob 0 5 USD", "r T1 alice 4.0.a 5 USD", "s 4 - - 0 -"]


def test_what_ends_begun_work_passes_a_full_stream(prepared: LuaPartition) -> None:
    """G9: a partition whose stream is full can still be paid into, and its debits end; nothing new begins."""
    assert prepared.apply(["d T1 alice far 5 USD"])[4] == "+"
    seq = filled(prepared, 0)
    for beginning in (
        "t T2 alice bob 1 USD",
        "d T2 alice far 1 USD",
        "o - new - 0 USD",
        "f - bob freeze 0 -",
    ):
        assert_refused(prepared, ["FULL"], [*ENDING, beginning], stream_entries_max=1)
    assert prepared.apply(ENDING, stream_entries_max=1)[4] == "+++"
    assert prepared.image()["meta"]["seq"] == str(seq + 1)


def test_what_ends_begun_work_has_a_limit_too(prepared: LuaPartition) -> None:
    """G10: the reserve above the stream's own limit."""
    found = re.search(r"^local ENDING_ENTRIES_MAX = (\d+)", prepared.apply_script.text, re.MULTILINE)
    assert found
    reserve = int(found[1])
    with prepared.client.pipeline(transaction=False) as pipe:
        pipe.delete(prepared.keys.journal)
        for number in range(reserve):
            pipe.xadd(prepared.keys.journal, {"older": "entries"}, f"0-{number + 1}")
        pipe.execute()
    begun = int(prepared.image()["meta"]["seq"])
    most = filled(prepared, 0) - begun
    assert prepared.apply(ENDING[:1], stream_entries_max=most)[:2] == ["FULL", reserve + most]
    assert prepared.apply(ENDING[:1], stream_entries_max=most + 1)[4] == "+"


def test_open_entries_do_not_fill_a_stream(prepared: LuaPartition) -> None:
    """G9: they wait for their receivers, and the limit says how far the journal may be behind."""
    for number in range(20):
        assert prepared.apply([f"d OPEN{number:02} alice far 1 USD"])[4] == "+"
    seq = filled(prepared, 0)
    assert_refused(prepared, ["FULL", seq - 20], PAY, stream_entries_max=seq - 20)
    assert prepared.apply(PAY, stream_entries_max=seq - 19)[0] == "OK"


@pytest.mark.parametrize("offset", [-1, 1, 2])
def test_wrong_window(prepared: LuaPartition, offset: int) -> None:
    assert_refused(prepared, ["WINDOW", 1], PAY, window=1 + offset)


def test_window_is_due(prepared: LuaPartition) -> None:
    assert_refused(prepared, ["WINDOW", 2], PAY, window=1, window_ms=0)
    assert prepared.apply(PAY, window=2, window_ms=0)[0] == "OK"
    assert prepared.window == 2


def test_the_first_window_is_not_due_before_its_first_entry(partition: LuaPartition) -> None:
    assert_refused(partition, ["WINDOW", 1], ["o - alice - 0 USD"], window=2, window_ms=0)
    assert partition.apply(["o - alice - 0 USD"], window=1, window_ms=0)[0] == "OK"


@pytest.mark.parametrize("age_ms", [HOUR_MS, 302_000, -HOUR_MS, -302_000])
def test_issued_too_old_or_in_the_future(prepared: LuaPartition, age_ms: int) -> None:
    """A process that was stopped and wakes up cannot pay twice."""
    assert_refused(prepared, ["EXPIRED"], PAY, issued_ms=prepared.now_ms() - age_ms)


@pytest.mark.parametrize("age_ms", [0, 298_000, -298_000])
def test_issued_within_its_age(prepared: LuaPartition, age_ms: int) -> None:
    assert prepared.apply(PAY, issued_ms=prepared.now_ms() - age_ms)[0] == "OK"


def test_time_never_goes_back(prepared: LuaPartition) -> None:
    clock = prepared.now_ms() + HOUR_MS
    prepared.meta(clock=clock)
    assert prepared.apply(PAY)[3] == clock
    assert prepared.image()["meta"]["clock"] == str(clock)


def test_close_must_name_every_currency(prepared: LuaPartition) -> None:
    assert prepared.apply(["o - alice - 0 EUR"])[4] == "+"
    assert_refused(prepared, ["CURRENCIES", "EUR,USD"], ["f - bob close 0 -"], currencies=("USD",))


MALFORMED = [
    "t T1 alice bob 0 USD",
    f"t T1 alice bob {MAX + 1} USD",
    f"t T1 alice bob {MAX + 2} USD",
    "d T1 alice far 0 USD",
    f"c 9.1 alice 0 {MAX + 1} USD",
    "c 9.1 alice 0 0 USD",
    "r T1 alice 4.0 1 USD",
    "r T1 alice 4.0.+ 1 USD",
    "r T1 alice 4.0.a 0 USD",
    "r T1 alice x.0.a 1 USD",
    "f - alice melt 0 -",
    "f - alice - 0 -",
    "f - alice close. 0 -",
    "f - alice close.x 0 -",
    "f - alice reopen 0 -",
    "f - alice closing.3 0 -",
    "f - alice freeze.3 0 -",
]


@pytest.mark.parametrize("line", MALFORMED)
def test_malformed_operation(prepared: LuaPartition, line: str) -> None:
    """One malformed line refuses the whole batch, what stands before it included."""
    assert_refused(prepared, ["MALFORMED"], ["t T0 alice bob 1 USD", line])


def test_unknown_kind(prepared: LuaPartition) -> None:
    """No service packs one, so the letter is put in behind its back."""
    lines = ["t T0 alice bob 1 USD", "f - alice freeze 0 -"]
    columns = pack([parse_operation(line) for line in lines]).columns.decode()
    assert_refused(prepared, ["MALFORMED"], lines, operations=columns.replace('["tf"', '["tx"'))


@pytest.mark.parametrize(
    "line",
    [
        "t T1 alice alice 1 USD",
        "t T1 @mint @mint 1 USD",
        "t T1 alice @transit 1 USD",
        "t T1 @transit alice 1 USD",
        "d T1 @transit far 1 USD",
        "c 9.1 @transit 0 1 USD",
    ],
)
def test_both_sides_the_same_account(prepared: LuaPartition, line: str) -> None:
    """G2: money must not come out of one account twice read."""
    assert_refused(prepared, ["MALFORMED"], ["t T0 alice bob 1 USD", line])


def test_refund_to_transit(prepared: LuaPartition) -> None:
    """G2: as above, of a refund that would be applied."""
    assert prepared.apply(["d T1 alice far 5 USD"])[4] == "+"
    assert_refused(prepared, ["MALFORMED"], ["r T1 @transit 4.0.a 5 USD"])


@pytest.mark.parametrize("limit", [str(MAX + 1), "x", "-1", "+5", "1.5", "9" * 400])
def test_malformed_limit(prepared: LuaPartition, limit: str) -> None:
    """G12: a limit is an amount too."""
    assert_refused(prepared, ["MALFORMED"], ["t T0 alice bob 1 USD", f"o - new {limit} 0 USD"])


COLUMNS = '["t","USD","",3,"T1","alice","bob","@transit",1]'


@pytest.mark.parametrize(
    "operations",
    [
        "",
        "x",
        "[",
        COLUMNS[:-1],
        COLUMNS[1:],
        f"x{COLUMNS}",
        f"{COLUMNS}x",
        COLUMNS.replace("]", ",]"),
        COLUMNS.replace("]", ",1]"),
        COLUMNS.replace(",1]", "]"),
        COLUMNS.replace(",3,", ",2,"),
        COLUMNS.replace(",3,", ",4,"),
        COLUMNS.replace("@transit", "@bank"),
        COLUMNS.replace('"t"', '""'),
        COLUMNS.replace('"t"', '"tt"'),
        COLUMNS.replace('"t"', '"d"'),
        COLUMNS.replace('"t"', '"T"'),
        '["c","USD","",2,"9.","alice","@transit",1]',
        COLUMNS.replace("1]", "-1]"),
        COLUMNS.replace("1]", "1.5]"),
        COLUMNS.replace("1]", "9" * 400 + "]"),
        COLUMNS.replace("USD", "GBP"),
        COLUMNS.replace('"USD"', '["GBP"]'),
        COLUMNS.replace('"USD"', '["USD","USD"]').replace('"t"', '"tt"'),
    ],
)
def test_columns_that_are_not_those_of_operations(prepared: LuaPartition, operations: str) -> None:
    assert_refused(prepared, ["MALFORMED"], PAY, operations=operations)


def test_too_many_operations(prepared: LuaPartition) -> None:
    """The most that the script takes works with two accounts of its own for each, one more is refused."""
    found = re.search(r"^local OPERATIONS_MAX = (\d+)", prepared.apply_script.text, re.MULTILINE)
    assert found
    operations_max = int(found[1])
    assert operations_max >= SCRIPT_OPERATIONS_MAX
    lines = [f"t T{i} @a{i} @b{i} 1 USD" for i in range(operations_max + 1)]
    assert_refused(prepared, ["MALFORMED"], lines)
    assert prepared.apply(lines[:-1])[4] == "+" * operations_max
    assert prepared.image()["balance:USD"][f"@b{operations_max - 1}"] == "1"


def test_replay_is_refused_unless_recovering(prepared: LuaPartition) -> None:
    before = prepared.image()
    for state in ("live", "moving"):
        prepared.meta(state=state)
        assert prepared.replay(prepared.payloads()[-1]) == ["STATE", state]
    assert prepared.image() == before


def test_replay_continues_the_chain_or_nothing(prepared: LuaPartition) -> None:
    """G7."""
    payloads = prepared.payloads()
    prepared.empty("recovering")
    before = prepared.image()
    assert prepared.replay(payloads[1])[0] == "MALFORMED"
    assert prepared.image() == before
    assert prepared.replay(payloads[0])[0] == "OK"
    assert prepared.replay(payloads[0])[0] == "MALFORMED"
    assert prepared.replay(payloads[2])[0] == "MALFORMED"
    assert prepared.image()["meta"]["seq"] == "1"
    assert prepared.image()["meta"]["nonce"] != ZERO_NONCE


def test_memory_that_runs_out_stops_the_script_before_its_first_write(prepared: LuaPartition) -> None:
    """G1: Redis refuses the first growing write when memory is short; everything is decided by then, nothing done."""
    before = prepared.image()
    prepared.client.config_set("maxmemory", 1)
    try:
        code, said, _ = prepared.apply(PAY)
        assert code == "ERROR"
        assert refusal_inside(said, True).meaning is Meaning.MEMORY
        assert prepared.image() == before
    finally:
        prepared.client.config_set("maxmemory", 0)
    assert prepared.apply(PAY)[0] == "OK"
