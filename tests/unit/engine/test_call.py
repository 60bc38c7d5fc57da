"""The batches of one call to a shard, and the handling of its answers for each partition."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final, cast
from unittest.mock import patch

import hiredis
import pytest

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.kinds import weight_of
from wallet_engine.domain.limits import ISSUED_AGE_MS_MAX, SCRIPT_OPERATIONS_MAX
from wallet_engine.domain.operation import Words
from wallet_engine.engine import call as call_module
from wallet_engine.engine import engine as engine_module
from wallet_engine.engine.accumulator import EARLY_OPERATIONS_MIN, HOLD_MS_MAX, Accumulator
from wallet_engine.engine.batch import Batch
from wallet_engine.engine.clocks import now_ms
from wallet_engine.engine.conditions import Condition
from wallet_engine.engine.engine import RECEIPT_TIMEOUT_S, Engine
from wallet_engine.engine.passage import Passage
from wallet_engine.engine.refusals import ScriptRefusal
from wallet_engine.journal.receipts_tracker import ReceiptTracker
from wallet_engine.redis_store.connection import ConnectionLost
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.node_clock import NodeClock
from wallet_engine.redis_store.refusals import Meaning, Refusal
from wallet_engine.redis_store.scripts import load_script
from wallet_engine.telemetry.metrics import Metrics

PARTITIONS: Final = 8
NON_LOCAL: Final = b"ERR Script attempted to access a non local key in a cluster node"


class Waiter:
    """Waits for one operation."""

    def __init__(self) -> None:
        self.said = ""

    def committed(self, outcome: str, idx: int, batch: Batch) -> None:
        self.said = outcome

    def failed(self, outage: Outage) -> None:
        self.said = outage.code


class Lane:
    """Keeps the sent calls."""

    def __init__(self) -> None:
        self.clock = NodeClock()
        self.calls: list[list[bytes]] = []
        self.callbacks: list[Callable[[Any], None]] = []

    def send(self, command: bytes, callback: Callable[[Any], None]) -> None:
        reader = hiredis.Reader()
        reader.feed(command)
        self.calls.append(reader.gets())
        self.callbacks.append(callback)

    def flush(self) -> None:
        pass


class View:
    """A `ClusterView` of one shard."""

    def __init__(self, *_: Any, on_change: Callable[[], None], **__: Any) -> None:
        self.on_change = on_change
        self.recoveries: list[str] = []
        self.tracker = ReceiptTracker(quorum=1)
        self.lane = Lane()
        self.lanes = {"s1": self.lane}
        self.accumulators = [Accumulator(p, PartitionKeys(str(p)), "s1", 1) for p in range(PARTITIONS)]
        self.config = SimpleNamespace(retention_ms=86_400_000, stream_entries_max=1_000)
        self.heeded: list[Meaning] = []

    def ask_recovery(self, shard: str, reason: str) -> None:
        self.recoveries.append(shard)

    def heed_refusal(self, shard: str, refusal: Refusal) -> None:
        self.heeded.append(refusal.meaning)

    def heed_script(self, accumulator: Accumulator, refusal: ScriptRefusal) -> bool:
        if refusal.code == "LIMITS":
            accumulator.limits = True
        return refusal.code == "LIMITS"


class Bench:
    """An engine with this view. The test gives the shard's answers."""

    def __init__(self) -> None:
        with patch.object(engine_module, "ClusterView", View):
            self.engine = Engine(cast(Any, None), Metrics())
        self.view = cast(View, self.engine.cluster)
        self.lane = self.view.lane
        self.copy = self.engine.tracker.connected("j1", cast(Any, SimpleNamespace(written=self._told)), [])
        self.told: list[int] = []
        self.waiters: dict[int, list[Waiter]] = {}

    def _told(self, entries: list[tuple[int, bytes, bytes]]) -> None:
        self.told += [partition for partition, _, _ in entries]

    async def submit(self, *counts: int, kind: str = "d") -> None:
        """Submit operations in one wave: `counts` has the number for each partition."""
        for partition, count in enumerate(counts):
            for _ in range(count):
                waiter = Waiter()
                self.waiters.setdefault(partition, []).append(waiter)
                operation: Words = (kind, "A" * 22, "alice", "bob", 1, "USD", "", "")
                self.engine.submit(partition, operation, waiter, self.engine.now_s())
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def parts(self, call: int) -> list[tuple[int, int, str]]:
        """Partition, number of operations and nonce of each part of a call."""
        arguments = self.lane.calls[call][4:]
        found = []
        for head, columns in zip(arguments[::2], arguments[1::2], strict=True):
            tag, _, nonce, *_ = head.decode().split(" ")
            found.append((int(tag.strip("{}")), len(columns.split(b'"')[1]), nonce))
        return found

    def applied(self, call: int) -> list[Any]:
        """The script's answer when all operations are applied."""
        return [
            f"7 {'0' * 16} {nonce} 1 1700000000000 1.0 {'+' * count} 2".encode()
            for _, count, nonce in self.parts(call)
        ]

    def answer(self, call: int, reply: Any) -> None:
        self.lane.callbacks[call](reply)

    def receipts(self, call: int) -> None:
        groups = [(partition, [nonce], 7) for partition, _, nonce in self.parts(call)]
        self.engine.tracker.receipts(self.copy, groups)

    def said(self) -> list[set[str]]:
        return [{waiter.said for waiter in self.waiters[p]} for p in sorted(self.waiters)]


def run(check: Callable[[Bench], Any]) -> None:
    async def main() -> None:
        await check(Bench())

    asyncio.run(main())


def test_a_wave_is_one_call_for_each_shard() -> None:
    async def check(bench: Bench) -> None:
        await bench.submit(1, 2, 0, 3)
        (call,) = bench.lane.calls
        assert call[:4] == [b"EVALSHA", load_script("apply").sha.encode(), b"0", b"86400000 1000 300000"]
        assert [(partition, count) for partition, count, _ in bench.parts(0)] == [(0, 1), (1, 2), (3, 3)]
        bench.answer(0, bench.applied(0))
        assert bench.told == [0, 1, 3]
        assert bench.said() == [{""}, {""}, {""}]
        bench.receipts(0)
        assert bench.said() == [{"+"}, {"+"}, {"+"}]

    run(check)


def test_a_call_is_cut_by_what_it_costs() -> None:
    """No call costs more than one batch may. A partition with a full batch is sent at once."""

    async def check(bench: Bench) -> None:
        await bench.submit(40, 60, 5, 350, 80, 400, 3, 2)
        sizes = [[count for _, count, _ in bench.parts(n)] for n in range(len(bench.lane.calls))]
        assert sizes == [[40, 60], [5, 350], [80], [400], [3, 2]]
        assert all(sum(size) <= SCRIPT_OPERATIONS_MAX for size in sizes)
        assert sum(sizes[0]) >= EARLY_OPERATIONS_MIN

    run(check)


HOLD: Final = ("h", "A" * 22, "alice", "bob|600000", 1, "USD", "", "")
LEGS: Final = "".join(f"p{idx}|alice|bob|1|USD;" for idx in range(5))
GROUP: Final = ("p", "A" * 22, "alice", f"mark:0:-:{LEGS}", 0, "-", "", "")
FREEZE: Final = ("f", "-", "alice", "freeze", 0, "-", "", "")


@pytest.mark.parametrize("operation", [HOLD, GROUP, FREEZE])
def test_what_is_more_than_a_transfer_shares_its_call(operation: Words) -> None:
    async def check(bench: Bench) -> None:
        for partition in (1, 2):
            bench.engine.submit(partition, operation, Waiter(), bench.engine.now_s())
        await bench.submit(1, 1, 1)
        assert len(bench.lane.calls) == 1
        assert {(p, count) for p, count, _ in bench.parts(0)} == {(0, 1), (1, 2), (2, 2)}
        assert bench.lane.calls[0][1] == load_script("apply", extended=True).sha.encode()

    run(check)


def test_plain_and_extended_go_apart_where_one_call_would_be_too_long() -> None:
    """Neither waits for the other. The plain script gets the operations that it supports."""

    async def check(bench: Bench) -> None:
        few, many = EARLY_OPERATIONS_MIN - 1, EARLY_OPERATIONS_MIN // weight_of(HOLD)
        for _ in range(many - 1):
            bench.engine.submit(1, HOLD, Waiter(), bench.engine.now_s())
        with patch.object(call_module, "SCRIPT_OPERATIONS_MAX", EARLY_OPERATIONS_MIN):
            await bench.submit(few)
        sent = {call[1]: bench.parts(n) for n, call in enumerate(bench.lane.calls)}
        assert {sha: [(p, count) for p, count, _ in parts] for sha, parts in sent.items()} == {
            load_script("apply").sha.encode(): [(0, few)],
            load_script("apply", extended=True).sha.encode(): [(1, many - 1)],
        }

    run(check)


@pytest.mark.parametrize("operation", [HOLD, GROUP])
def test_what_is_more_than_a_transfer_counts_for_more(operation: Words) -> None:
    """It counts for more in the limit of a batch and in that of a call."""
    fits = SCRIPT_OPERATIONS_MAX // weight_of(operation)

    async def check(bench: Bench) -> None:
        for partition in (1, 2):
            for _ in range(fits + 2):
                bench.engine.submit(partition, operation, Waiter(), bench.engine.now_s())
        await bench.submit()
        assert [[count for _, count, _ in bench.parts(n)] for n in range(len(bench.lane.calls))] == [
            [fits]
        ] * 2
        bench.answer(0, bench.applied(0))
        bench.receipts(0)
        await bench.submit()
        assert [count for _, count, _ in bench.parts(2)] == [2]

    run(check)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ([b"STATE", b"moving"], Condition.MOVING),
        ([b"STATE", b"recovering"], Condition.RECOVERING),
        ([b"EPOCH", b"2"], Condition.FENCED),
        ([b"OWNER", b"f" * 40], Condition.FENCED),
        ([b"ERROR", NON_LOCAL, 0], Condition.UNREACHABLE),
        ([b"ERROR", b"MISCONF Redis is configured to save", 0], Condition.REFUSED),
    ],
)
def test_one_that_is_refused_waits_and_the_others_are_answered(answer: list[Any], why: Condition) -> None:
    async def check(bench: Bench) -> None:
        await bench.submit(2, 2, 2)
        reply = bench.applied(0)
        reply[1] = answer
        bench.answer(0, reply)
        bench.receipts(0)
        assert bench.said() == [{"+"}, {""}, {"+"}]
        waiting = bench.view.accumulators[1]
        assert (waiting.pending, waiting.batch, waiting.held_since_s is not None) == (2, None, True)
        assert bench.engine.lookout.troubles[1].condition is why
        assert set(bench.engine.lookout.troubles) == {1}
        assert bench.told == [0, 2]

    run(check)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ([b"FULL", 1000], "journal_unavailable"),
        ([b"MALFORMED", b"operation 1"], "partition_unavailable"),
        ([b"ERROR", b"OOM command not allowed", 0], "overloaded"),
        ([b"ERROR", b"WRONGTYPE Operation against a key", 1], "outcome_unknown"),
        ([b"ERROR", b"@user_script: 88: -OOM command not allowed", 0], "overloaded"),
        ([b"ERROR", NON_LOCAL, 1], "outcome_unknown"),
    ],
)
def test_one_that_fails_fails_alone(answer: list[Any], code: str) -> None:
    async def check(bench: Bench) -> None:
        await bench.submit(2, 2, 2)
        reply = bench.applied(0)
        reply[0] = answer
        bench.answer(0, reply)
        bench.receipts(0)
        assert bench.said() == [{code}, {"+"}, {"+"}]
        assert bool(bench.engine.headroom.short) == (
            code == "overloaded"
        )  # so new work is refused before Redis must refuse it

    run(check)


def test_what_a_node_calls_too_old_because_its_clock_has_stepped_goes_again_by_that_clock() -> None:
    async def check(bench: Bench) -> None:
        await bench.submit(1)
        bench.lane.clock.shows(1_700_000_000_000, bench.engine.now_s())
        stepped_ms = 1_700_000_600_000
        bench.answer(0, [[b"EXPIRED", stepped_ms]])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        issued_ms = int(bench.lane.calls[1][4].split(b" ")[3])
        assert abs(issued_ms - stepped_ms) < 60_000
        bench.answer(1, bench.applied(1))
        bench.receipts(1)
        assert bench.said() == [{"+"}]

    run(check)


def test_g4_what_a_process_had_in_hand_while_it_stood_still_stays_as_old_as_it_is() -> None:
    """A call says when its operations were decided, not when it is sent. An operation that a node finds too old is not
    sent again with a newer time.
    """

    async def check(bench: Bench) -> None:
        now_ms, waiter = 1_700_000_000_000, Waiter()
        bench.lane.clock.shows(now_ms, bench.engine.now_s())
        operation: Words = ("c", "9.1", "bob", "0", 1, "USD", "", "")
        bench.engine.submit(0, operation, waiter, bench.engine.now_s() - 2 * ISSUED_AGE_MS_MAX / 1000)
        await bench.submit()
        issued_ms = int(bench.lane.calls[0][4].split(b" ")[3])
        assert abs(issued_ms - (now_ms - 2 * ISSUED_AGE_MS_MAX)) < 60_000
        bench.answer(0, [[b"EXPIRED", now_ms]])
        await bench.submit()
        assert len(bench.lane.calls) == 1
        assert waiter.said == "overloaded"

    run(check)


def test_g4_what_a_partition_may_have_forgotten_meanwhile_is_not_sent() -> None:
    """Two windows were opened since the decision. If another process has sent the operation, it would run twice."""

    async def check(bench: Bench) -> None:
        now_s, accumulator = bench.engine.now_s(), bench.view.accumulators[0]
        accumulator.learn_window(1, now_s)
        assert Condition.STOOD_STILL not in conditions(bench)
        accumulator.learn_window(3, now_s + 60)
        assert Condition.STOOD_STILL in conditions(bench)  # G14: it takes nothing now
        await bench.submit(1, 1)
        assert [partition for partition, _, _ in bench.parts(0)] == [1]
        bench.answer(0, bench.applied(0))
        bench.receipts(0)
        assert bench.said() == [{"overloaded"}, {"+"}]
        accumulator.remembers_since_s = now_s
        assert Condition.STOOD_STILL not in conditions(bench)

    run(check)


def conditions(bench: Bench) -> set[Condition]:
    bench.engine.lookout._note_standstill()
    return set(bench.engine.lookout.conditions.of_service)


def test_g4_what_was_seen_to_be_there_for_long_is_old_whatever_the_clocks_say() -> None:
    """A receiver may have forgotten its credit: the recorded time may be that of a clock that was set."""

    async def check(bench: Bench) -> None:
        engine = bench.engine
        engine.look_up_age_ms, engine.passages = 10_000, [Passage(10.0)]
        engine.passages[0].note(7, engine.now_s() - 20)
        partition_ms = now_ms() + 60_000
        assert engine.is_old(0, 7, partition_ms, partition_ms)
        assert not engine.is_old(0, 8, partition_ms - 10_000, partition_ms)
        assert engine.is_old(0, 8, partition_ms - 10_001, partition_ms)

    run(check)


def test_g4_the_latest_of_all_clocks_says_whether_a_debit_is_old() -> None:
    """The clock of its node may be wrong, or have been wrong when it was recorded."""

    async def check(bench: Bench) -> None:
        engine, right_ms = bench.engine, now_ms()
        engine.look_up_age_ms, engine.passages = 3_600_000, [Passage(3600.0)]
        bench.lane.clock.shows(right_ms - 10**9, engine.now_s())
        assert not engine.is_old(0, 7, right_ms - 1_800_000)
        assert engine.is_old(0, 7, right_ms - 3_700_000)
        assert not engine.is_old(0, 7, right_ms + ISSUED_AGE_MS_MAX - 60_000)
        assert engine.is_old(0, 7, right_ms + ISSUED_AGE_MS_MAX + 60_000)
        bench.lane.clock.shows(right_ms + 10**9, engine.now_s())
        assert engine.is_old(0, 7, right_ms - 1_800_000)

    run(check)


def test_g9_what_ends_begun_work_goes_again_where_a_full_stream_refuses_what_begins() -> None:
    async def check(bench: Bench) -> None:
        beginning, ending = Waiter(), Waiter()
        for waiter, kind, field in ((beginning, "d", "A" * 22), (ending, "c", "9.1")):
            operation: Words = (kind, field, "alice", "0", 1, "USD", "", "")
            bench.engine.submit(0, operation, waiter, bench.engine.now_s())
        await bench.submit()
        bench.answer(0, [[b"FULL", 256]])
        assert beginning.said == "journal_unavailable"
        with pytest.raises(Outage, match="256 entries wait for the journal"):
            bench.engine.headroom.check(0)
        await bench.submit()
        assert [(partition, count) for partition, count, _ in bench.parts(1)] == [(0, 1)]
        bench.answer(1, bench.applied(1))
        bench.receipts(1)
        assert ending.said == "+"

    run(check)


def test_g9_an_entry_that_no_copy_receipts_locks_no_partition() -> None:
    """The entry was lost with Redis's memory, or the journal is down. Its callers get an outage; others go on."""

    async def check(bench: Bench) -> None:
        await bench.submit(1)
        bench.answer(0, bench.applied(0))
        bench.engine._tidy(bench.engine.now_s() + RECEIPT_TIMEOUT_S + 1)
        assert bench.said() == [{"outcome_unknown"}]
        await bench.submit(1)
        assert [(partition, count) for partition, count, _ in bench.parts(1)] == [(0, 1)]

    run(check)


def test_g10_what_waits_for_a_partition_that_is_not_served_is_told_so_in_time() -> None:
    """Later callers are refused before anything begins."""

    async def check(bench: Bench) -> None:
        await bench.submit(1)
        bench.answer(0, [[b"STATE", b"recovering"]])
        bench.engine._tidy(bench.engine.now_s() + HOLD_MS_MAX / 1000 - 0.1)
        bench.engine.headroom.check(0)
        assert bench.said() == [{""}]
        bench.engine._tidy(bench.engine.now_s() + HOLD_MS_MAX / 1000 + 0.1)
        assert bench.said() == [{"partition_unavailable"}]
        with pytest.raises(Outage, match="partition 0 is not served now"):
            bench.engine.headroom.check(0)

    run(check)


def test_g8_nobody_is_told_what_a_node_remembers_that_is_behind_the_journal() -> None:
    """An answer that wrote nothing names the node's newest entry, but the journal has a newer one."""

    async def check(bench: Bench) -> None:
        await bench.submit(1)
        bench.engine.tracker.receipts(bench.copy, [(0, ["f" * 16], 8)])
        bench.answer(0, [f"7 {'0' * 16} {'e' * 16} 1 1700000000000 1.0 i 2".encode()])
        bench.engine.tracker.receipts(bench.copy, [(0, ["e" * 16], 7)])
        assert bench.said() == [{""}]
        assert bench.view.accumulators[0].pending == 1

    run(check)


def test_g8_a_node_that_stays_behind_the_journal_is_to_be_recovered() -> None:
    async def check(bench: Bench) -> None:
        await bench.submit(1)
        bench.engine.tracker.receipts(bench.copy, [(0, ["f" * 16], 8)])
        for call, recoveries in ((0, []), (1, ["s1"])):
            bench.answer(call, [f"7 {'0' * 16} {'e' * 16} 1 1700000000000 1.0 i 2".encode()])
            assert bench.view.recoveries == recoveries
            bench.view.on_change()
            await bench.submit()
        assert bench.said() == [{""}]

    run(check)


def test_one_that_has_limits_is_asked_again_by_the_other_text() -> None:
    async def check(bench: Bench) -> None:
        await bench.submit(1, 1, 1)
        reply = bench.applied(0)
        reply[2] = [b"LIMITS", b"2"]
        bench.answer(0, reply)
        assert bench.lane.calls[1][1] == load_script("apply", extended=True).sha.encode()
        assert [partition for partition, _, _ in bench.parts(1)] == [2]
        bench.answer(1, bench.applied(1))
        bench.receipts(0)
        bench.receipts(1)
        assert bench.said() == [{"+"}] * 3
        await bench.submit(1, 1, 1)
        assert [[p for p, _, _ in bench.parts(n)] for n in range(2, len(bench.lane.calls))] == [[2, 0, 1]]

    run(check)


def test_partitions_with_limits_go_together_and_weigh_more() -> None:
    async def check(bench: Bench) -> None:
        for partition in (1, 3, 5, 6):
            bench.view.accumulators[partition].limits = True
        await bench.submit(10, 10, 10, 20, 10, 20, 30)
        calls = [[p for p, _, _ in bench.parts(n)] for n in range(len(bench.lane.calls))]
        assert calls == [[1, 3, 5], [6, 0, 2, 4]]

    run(check)


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        ("NOSCRIPT No matching script", Meaning.RECOVER),
        ("LOADING Redis is loading the dataset in memory", Meaning.RETRY),
        ("BUSY Redis is busy running a script", Meaning.RETRY),
        ("CLUSTERDOWN The cluster is down", Meaning.RETRY),
        ("MASTERDOWN Link with MASTER is down", Meaning.ELSEWHERE),
        ("NOPERM this user has no permissions", Meaning.RETRY),
    ],
)
def test_an_error_of_the_whole_call_puts_every_batch_back(error: str, meaning: Meaning) -> None:
    """Nothing ran, so no caller is answered yet."""

    async def check(bench: Bench) -> None:
        await bench.submit(1, 2, 3)
        bench.answer(0, hiredis.ReplyError(error))
        assert bench.said() == [{""}] * 3
        assert [a.pending for a in bench.view.accumulators[:3]] == [1, 2, 3]
        assert bench.view.heeded == [meaning] * 3
        assert bench.engine.tracker.pending == 0

    run(check)


@pytest.mark.parametrize("reply", [ConnectionLost("gone"), hiredis.ReplyError("ERR Error running script")])
def test_what_may_have_run_is_unknown_to_each(reply: Exception) -> None:
    async def check(bench: Bench) -> None:
        await bench.submit(1, 2, 3)
        bench.answer(0, reply)
        assert bench.said() == [{"outcome_unknown"}] * 3
        assert [a.pending for a in bench.view.accumulators[:3]] == [0, 0, 0]
        assert bench.engine.tracker.pending == 0

    run(check)


def test_a_bug_that_one_batch_meets_leaves_no_other_out() -> None:
    async def check(bench: Bench) -> None:
        await bench.submit(1, 1, 1)
        reply = bench.applied(0)
        reply[0] = b"no header"
        with pytest.raises(ValueError, match="unpack"):
            bench.answer(0, reply)
        bench.receipts(0)
        assert bench.said() == [{"outcome_unknown"}, {"+"}, {"+"}]

    run(check)


@pytest.mark.parametrize("answer", [[b"OK", b""], [], None, 7, b"no header", [b"ERROR"]])
def test_g9_an_answer_that_nobody_understands_holds_nothing_up(answer: Any) -> None:
    """The callers waited for ever, and the partition took nothing any more."""

    async def check(bench: Bench) -> None:
        await bench.submit(1, 1)
        good = bench.applied(0)[1]
        with pytest.raises(ValueError, match=r"no answer to a batch|unpack"):  # it is loud
            bench.answer(0, [answer, good])
        assert bench.said()[0] == {"outcome_unknown"}
        bench.receipts(0)
        assert bench.said()[1] == {"+"}
        assert not bench.engine._awaiting
        await bench.submit(1)
        bench.answer(1, bench.applied(1))
        bench.receipts(1)
        assert bench.said()[0] == {"outcome_unknown", "+"}

    run(check)


def test_g9_too_few_answers_hold_nothing_up() -> None:
    async def check(bench: Bench) -> None:
        await bench.submit(1, 1)
        with pytest.raises(ValueError, match="no answer to a batch"):
            bench.answer(0, bench.applied(0)[:1])
        assert bench.said() == [{"outcome_unknown"}, {"outcome_unknown"}]

    run(check)


def test_g9_an_operation_that_cannot_be_packed_holds_nothing_up() -> None:
    """The other batches of its wave were never sent, and nobody was told."""

    async def check(bench: Bench) -> None:
        bad = Waiter()
        bench.engine.submit(1, ("?", "A" * 22, "alice", "bob", 1, "USD", "", ""), bad, bench.engine.now_s())
        await bench.submit(1, 1, 1)
        assert bad.said == "partition_unavailable"
        assert [(partition, count) for partition, count, _ in bench.parts(0)] == [(0, 1), (2, 1)]
        bench.answer(0, bench.applied(0))
        bench.receipts(0)
        await bench.submit(0, 1)
        assert [(partition, count) for partition, count, _ in bench.parts(1)] == [(1, 1)]

    run(check)
