"""Protocol bugs put in on purpose: each must be found, or the simulator is blind.

A plant changes the engine's classes or the text of its scripts for the length of one run. `seeds_max` is how many
seeds, counted from 1, it may take.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final
from unittest.mock import patch

from simulation.cluster import Cluster
from simulation.profile import OVERTAKING, Profile
from simulation.run import Plant, run_many
from simulation.world import Violation

from wallet_engine.domain.holds import finishing
from wallet_engine.drain.group_commit import GroupCommit
from wallet_engine.engine.accumulator import Accumulator
from wallet_engine.engine.batch import Batch
from wallet_engine.engine.engine import Engine
from wallet_engine.engine.reads import Reader
from wallet_engine.journal.copies_wire import Standing, Target
from wallet_engine.journal.copy import JournalCopy
from wallet_engine.journal.errors import Fork
from wallet_engine.journal.receipts_tracker import ReceiptTracker
from wallet_engine.recovery import ballot
from wallet_engine.recovery.ballot import Ballot
from wallet_engine.recovery.fellows import Fellows
from wallet_engine.recovery.peer_session import PeerSession
from wallet_engine.saga.capture import Capture
from wallet_engine.saga.expiry import Expirer
from wallet_engine.saga.group import Group, GroupDriver
from wallet_engine.saga.group_sweeper import GroupSweeper
from wallet_engine.saga.settling import settle
from wallet_engine.saga.sweeper import Sweeper
from wallet_engine.saga.transfer import Transfer


@dataclass(frozen=True)
class Bug:
    name: str
    #: Guarantees; the violation must name one of them.
    breaks: str
    plant: Plant
    seeds_max: int
    #: Faults that show it; empty: the faults that each seed draws.
    kinds: tuple[str, ...] = ()

    #: Journal copies, and how many of them must receipt.
    copies: tuple[int, int] = (1, 1)
    #: Whether it shows only when a dedupe window rotates.
    rotates: bool = False
    #: So rare, or shown so late, that only the soak looks for it.
    rare: bool = False
    #: The long outage that shows it; then the fields above are ignored.
    outage: str = ""
    #: Whether it shows only in groups that are repeated after a part has forgotten them; then no other field counts.
    late: bool = False
    #: Whether partitions move; then only `changes` counts besides.
    moves: bool = False
    #: The method of `Profile` that draws each seed's; then no other field counts.
    drawn_by: str = ""
    #: Other fields of the profile with which the bug shows soon.
    changes: Mapping[str, Any] = field(default_factory=dict)
    #: Where the search begins. A bug that shows late begins near the seed that shows it.
    seed_min: int = 1

    def profile(self, seed: int) -> Profile:
        if self.drawn_by:
            drawn_by: Profile = getattr(Profile, self.drawn_by)(seed)
            return drawn_by
        if self.outage:
            return Profile.draw_outage(seed, self.outage)
        if self.late:
            return Profile.draw_late(seed)
        if self.moves:
            return replace(Profile.draw_moves(seed), **self.changes)
        drawn = replace(Profile.draw(seed), journals=self.copies[0], quorum=self.copies[1])
        if self.rotates:
            return replace(drawn, faults=1, rests_s=(15.0, 14.0, 15.0), payments_per_caller=3)
        if not self.kinds:
            return drawn
        drawn = replace(drawn, kinds=self.kinds, faults=6, fault_gap_steps=150, rests_s=())
        return replace(drawn, **self.changes)


class _Nobody:
    def committed(self, outcome: str, idx: int, batch: Batch) -> None: ...

    def failed(self, outage: Exception) -> None: ...


def planted_method(kind: type, name: str, make: Callable[[Any], Any]) -> Plant:
    """Replace a method by `make(method)`."""

    @contextmanager
    def plant(_: Cluster) -> Iterator[None]:
        with patch.object(kind, name, make(getattr(kind, name))):
            yield

    return plant


def planted_script(*changes: tuple[str, str]) -> Plant:
    """Replace text in the service's and the replay's scripts, which keep the digests of the right ones."""

    def changed(text: bytes) -> bytes:
        for old, new in changes:
            text = text.replace(old.encode(), new.encode())
        return text

    @contextmanager
    def plant(cluster: Cluster) -> Iterator[None]:
        for node in cluster.nodes:
            node.patch_script = changed
        yield

    return plant


def changed_places(plant_text: str, script_text: str) -> int:
    """How often a script has a plant's text: a plant that changes nothing proves nothing."""
    return script_text.count(plant_text)


def _credit_before_receipt(original: Any) -> Any:
    def on_applied(self: Engine, accumulator: Accumulator, batch: Batch, reply: bytes) -> None:
        original(self, accumulator, batch, reply)
        for idx, (operation, item) in enumerate(zip(batch.operations, batch.items, strict=True)):
            if operation[0] == "d" and batch.outcomes[idx] == "+" and isinstance(item, Transfer):
                _, to, amount, currency = item.command[:4]
                credit = ("c", batch.entry, to, str(idx), amount, currency, "", "")
                self.submit(item.q, credit, _Nobody(), batch.sent_s)

    return on_applied


def _answer_before_receipt(original: Any) -> Any:
    def on_applied(self: Engine, accumulator: Accumulator, batch: Batch, reply: bytes) -> None:
        batch.durable = True
        self.tracker.forget(batch.nonce)
        original(self, accumulator, batch, reply)

    return on_applied


def _receipts_by_seq(original: Any) -> Any:
    def receipts(self: ReceiptTracker, copy: int, groups: Any) -> None:
        groups = list(groups)
        original(self, copy, groups)
        for partition, _, last_seq in groups:
            for nonce, pending in list(self._pending.items()):
                if pending.partition == partition and pending.seq is not None and pending.seq <= last_seq:
                    del self._pending[nonce]
                    for callback in pending.callbacks():
                        callback()

    return receipts


def _settle_before_credit(original: Any) -> Any:
    def credit(self: Transfer, *args: Any) -> None:
        settle(self.engine, self.p, self.seq)
        original(self, *args)

    return credit


def _sweep_without_receipt(original: Any) -> Any:
    async def end(self: Sweeper, *args: Any) -> None:
        async def durable(*_: Any) -> None: ...

        with patch.object(self, "_reader", _OtherReader(durable)):
            await original(self, *args)

    return end


def _expire_prepared(_original: Any) -> Any:
    async def give_back(
        self: GroupSweeper, driver: GroupDriver, partition: int, _transaction: str, record: Any
    ) -> None:
        await driver.send("b", partition, record.words.attempt, record.words.legs)

    return give_back


def _pay_before_decision(original: Any) -> Any:
    async def decide(self: Group, attempt: int, *args: Any) -> Any:
        for partition in self._parts.others:
            words = self._driver._words("y", attempt, self._parts.legs[partition], "-")
            self._engine.submit(partition, words, _Nobody(), self._engine.now_s())
        return await original(self, attempt, *args)

    return decide


def _never_asked_home(_original: Any) -> Any:
    async def known(_: Group) -> int:
        return 0

    return known


def _release_before_credit(original: Any) -> Any:
    def credit(self: Transfer, entry: str, issued_s: float) -> None:
        if isinstance(self, Capture):
            other = finishing(self.seq, self.idx, self.hold_field)
            words = ("l", self.command.transaction, self.command.from_account, other, 0)
            self.engine.submit(self.p, (*words, self.command.currency, "", ""), _Nobody(), issued_s)
        original(self, entry, issued_s)

    return credit


def _answer_before_release(_original: Any) -> Any:
    def paid(self: Capture, _issued_s: float) -> None:
        settle(self.engine, self.p, self.seq)
        self._finish("+")

    return paid


def _never_expire(_original: Any) -> Any:
    async def tick(self: Expirer, _accumulator: Accumulator) -> None: ...

    return tick


class _OtherReader:
    def __init__(self, durable: Any) -> None:
        self.durable = durable


def _read_before_receipt(_original: Any) -> Any:
    async def durable(self: Reader, *_: Any) -> None: ...

    return durable


def _outcome_unknown_is_declined(original: Any) -> Any:
    def failed(self: Transfer, outage: Any) -> None:
        self._finish("i" if outage.code == "outcome_unknown" else outage.code)

    return failed


def _no_fencing(_original: Any) -> Any:
    def promise(self: JournalCopy, ballots: Any) -> list[Standing]:
        standings = self.standings([partition for partition, _ in ballots])
        return [standing._replace(promised=0) for standing in standings]

    return promise


def _brought_of_any_epoch(_original: Any) -> Any:
    def take_brought(self: GroupCommit, entries: Any, receipts: Any) -> set[int]:
        missing = set()
        for partition, payload, header in entries:
            try:
                self._writer.append(partition, payload, header, bound=False)
            except Fork:
                missing.add(partition)
            else:
                receipts.append((partition, header.nonce, header.seq))
        return missing

    return take_brought


async def _finds_none(*_: Any) -> None: ...


def _worst_chain(original: Any) -> Any:
    async def take_best(self: Ballot, promised: Any) -> None:
        turned = [
            (peer, [each._replace(view=-each.view, seq=-each.seq) for each in standings])
            for peer, standings in promised
        ]
        with (
            patch.object(ballot, "Target", lambda p, epoch, seq, nonce: Target(p, epoch, -seq, nonce)),
            patch.object(
                Ballot, "_find_forks", _finds_none
            ),  # else it stops the partition, and nothing is lost
        ):
            await original(self, turned)

    return take_best


def _marks_without_following(_original: Any) -> Any:
    async def follow(self: PeerSession, question: Any) -> str:
        for partition, epoch, _, _ in question.targets:
            self._copy.writer.mark_base(partition, epoch)
        self._commit.sync()
        return ""

    return follow


def _own_position(_original: Any) -> Any:
    def quorum_seq(self: Fellows, partition: int) -> int:
        return self._copy.writer.position(partition).seq

    return quorum_seq


_DEADLY: Final = ("journal_killed", "journal_killed_at_sync", "redis_empty", "failover", "process_paused")

#: Many services on one shard, so that some still know the old primary while journal processes know the new one.
_ONE_SHARD_MANY_SERVICES: Final = {
    "services": 3,
    "shards": 1,
    "partitions": 2,
    "callers": 8,
    "payments_per_caller": 4,
    "faults": 10,
    "fault_gap_steps": 200,
}
#: Many ids are soon repeated, in partitions that write soon after each step of a clock.
_ASKED_AGAIN: Final = {
    "shards": 1,
    "partitions": 2,
    "callers": 8,
    "payments_per_caller": 8,
    "reply_lost": 0.4,
    "faults": 10,
    "fault_gap_steps": 100,
}
#: Faults that leave groups half done.
_INTERRUPTING: Final = (
    "service_killed",
    "process_paused",
    "connection_reset",
    "redis_stalled",
    "redis_empty",
)
#: For changed scripts that few seeds show: faults and profile fields that show them.
_SHOWN_BY: Final[dict[str, tuple[tuple[str, ...], Mapping[str, Any]]]] = {
    #: Faults that empty Redis, so that it is filled from the journal, and callers that ask for refunds.
    "refund total not replayed": (("redis_empty", "redis_flushed", "redis_restarted"), {"refunds": True}),
    "a group is decided twice": (_INTERRUPTING, {"groups": True}),
    "what was given back is prepared late": (
        _INTERRUPTING,
        {"groups": True, "reply_lost": 0.3, "payments_per_caller": 6},
    ),
    "time passes by the wall clock": (("clocks_stepped",), _ASKED_AGAIN),
}
#: The seeds that show others, if the first one does not.
_SHOWN_FROM: Final[dict[str, int]] = {
    "refund can be repeated": 10,
    "time passes by the wall clock": 7,
    "frozen receiver is paid": 6,
    "refund total not replayed": 11,
    "window before is not consulted": 4,
    "a group is decided twice": 2,
    "what was given back is prepared late": 245,
}
#: (script, its text, the replacement): the scripts of a recovery do not look whose the partition is.
OVERTAKEN: Final = (
    (
        "certify",
        "return meta[1] == 'recovering' and meta[2] == epoch and (not nonce or meta[3] == nonce)",
        "return true",
    ),
    (
        "claim",
        "if (tonumber(redis.call('HGET', k_meta, 'epoch')) or 0) > tonumber(epoch) then return 0 end",
        "",
    ),
    ("apply", "if meta[3] ~= ARGV[9] then return {'EPOCH', meta[3]} end", ""),
    ("apply", "if meta[5] ~= 'recovering' then return {'STATE', meta[5] or 'absent'} end", ""),
)
_BY_ANY: Final[tuple[tuple[str, ...], Mapping[str, Any]]] = ((), {})
SCRIPT_CHANGES: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "refund does not rewrite the answer": (("old = decline .. sub(old, 2)", "old = old"),),
    "refund can be repeated": (
        (
            "if not call('ZSCORE', batch.k_open, entry_seq) or call('ZSCORE', batch.k_open, part) then",
            "if not call('ZSCORE', batch.k_open, entry_seq) then",
        ),
    ),
    "rotation drops the window before": (
        ("call('UNLINK', k_seen_dropped)", "call('UNLINK', k_seen_dropped, k_seen_before)"),
    ),
    "window before is not consulted": (
        (
            "local old = remembered[field] or recalled[i] or recalled_before[i]",
            "local old = remembered[field] or recalled[i]",
        ),
    ),
    "time passes by the wall clock": (
        (
            "if witnessed_s * 1000 >= window_ms and seq_last > 0 then",
            "if now_ms - clock >= window_ms and seq_last > 0 then",
        ),
    ),
    "refused credit is not remembered": (
        (
            "local record = here and here .. mark .. outcome or mark .. outcome",
            "local record = outcome == APPLIED and (here or '') .. mark .. outcome or here or ''",
        ),
    ),
    "refund total not replayed": (
        (
            "keep_total(current, name, total + minor, '')",
            "if not REPLAY then keep_total(current, name, total + minor, '') end",
        ),
    ),
    "a group is decided twice": (
        (
            "if decision ~= INTERRUPTED or last + 0 >= attempt + 0 then",
            "if decision == INTERRUPTED and last + 0 >= attempt + 0 then",
        ),
    ),
    "what was given back is prepared late": (
        ("if status and (status ~= 'B' or last + 0 >= attempt + 0) then", "if status and status ~= 'B' then"),
    ),
    "frozen receiver is paid": (("if status_b == 'F' then return RECEIVER_FROZEN end", ""),),
}

BUGS: Final = (
    Bug(
        "credit before the debit's receipt",
        "G1",
        planted_method(Engine, "_on_applied", _credit_before_receipt),
        50,
    ),
    Bug(
        "answer before the receipt",
        "G5",
        planted_method(Engine, "_on_applied", _answer_before_receipt),
        50,
        seed_min=3,
    ),
    Bug(
        "receipts matched by sequence number",
        "G1 G5",
        planted_method(ReceiptTracker, "receipts", _receipts_by_seq),
        100,
        ("journal_killed", "redis_empty", "redis_old_image", "failover", "slow_network"),
        seed_min=24,
    ),
    Bug("settle before credit", "G9", planted_method(Transfer, "_credit", _settle_before_credit), 50),
    Bug(
        "sweeper does not wait for the debit's receipt",
        "G1",
        planted_method(Sweeper, "_end", _sweep_without_receipt),
        300,
        seed_min=28,
    ),
    Bug(
        "read before the receipt",
        "G1 G8",
        planted_method(Reader, "durable", _read_before_receipt),
        100,
        seed_min=28,
    ),
    Bug(
        "unknown outcome answered as a decline",
        "G4 G5",
        planted_method(Transfer, "failed", _outcome_unknown_is_declined),
        50,
        seed_min=10,
    ),
    Bug(
        "no fencing before a recovery",
        "G1 G5 G6 G7",
        planted_method(JournalCopy, "promise", _no_fencing),
        400,
        ("failover", "journal_killed"),
        (3, 2),
        rare=True,
        changes=_ONE_SHARD_MANY_SERVICES,
    ),
    Bug(
        "services' entries are receipted whatever their epoch",
        "G1 G5 G6 G7",
        planted_method(GroupCommit, "_take_brought", _brought_of_any_epoch),
        300,
        _DEADLY,
        (3, 2),
    ),
    Bug(
        "the shortest chain is chosen",
        "G1 G2 G3 G4 G5 G6 G7",
        planted_method(Ballot, "_take_best", _worst_chain),
        50,
        _DEADLY,
        (3, 2),
    ),
    Bug(
        "a copy counts before it has caught up",
        "G1 G2 G3 G4 G5 G6 G7",
        planted_method(PeerSession, "_follow", _marks_without_following),
        100,
        _DEADLY,
        (3, 2),
        seed_min=7,
    ),
    Bug(
        "a recovery that was overtaken goes on",
        "G6 G7 recorded",  # two recoveries replay into one partition: its journal does not come out as recorded
        planted_script(*((old, new) for _, old, new in OVERTAKEN)),
        100,
        OVERTAKING,
        (3, 2),
        changes={"faults": 12, "fault_gap_steps": 60, "shards": 1, "services": 3},
        seed_min=10,
    ),
    Bug(
        "streams are trimmed behind the fastest copy",
        "G5",
        planted_method(Fellows, "quorum_seq", _own_position),
        100,
        ("process_paused", "journal_killed"),
        (2, 2),
        seed_min=18,
    ),
    Bug(
        "a prepared group expires",
        "G1",
        planted_method(GroupSweeper, "_ask_home", _expire_prepared),
        100,
        _INTERRUPTING,
        changes={"groups": True},
        seed_min=18,
    ),
    Bug(
        "a part pays before home has decided",
        "G1",
        planted_method(Group, "_decide", _pay_before_decision),
        50,
        _INTERRUPTING,
        changes={"groups": True},
    ),
    Bug(
        "a group is prepared before home is asked",
        "G1 G4",
        planted_method(Group, "_known", _never_asked_home),
        60,
        late=True,
        seed_min=14,
    ),
    Bug(
        "a hold is released before its capture is received",
        "G1",
        planted_method(Transfer, "_credit", _release_before_credit),
        50,
        _INTERRUPTING,
        changes={"holds": True},
    ),
    Bug(
        "a capture is answered before the rest is released",
        "G5",
        planted_method(Capture, "_paid", _answer_before_release),
        50,
        _INTERRUPTING,
        changes={"holds": True},
    ),
    Bug(
        "expired holds stay",
        "G9",
        planted_method(Expirer, "_tick", _never_expire),
        50,
        _INTERRUPTING,
        changes={"holds": True},
        seed_min=5,
    ),
    *(
        Bug(
            name,
            "G1 G2 G3 G4 G5 G6 G7",
            planted_script(*changes),
            100,
            _SHOWN_BY.get(name, _BY_ANY)[0],
            rotates="window" in name,
            changes=_SHOWN_BY.get(name, _BY_ANY)[1],
            seed_min=_SHOWN_FROM.get(name, 1),
        )
        for name, changes in SCRIPT_CHANGES.items()
    ),
)


def seeds_needed(bug: Bug) -> tuple[int, str]:
    """How many seeds it takes to find the bug, and the violation; (0, "") when it is not found."""
    tried = range(bug.seed_min, bug.seed_min + bug.seeds_max)
    for seed, result in enumerate(run_many(tried, bug.plant, bug.profile), 1):
        if isinstance(result, Violation) and any(name in str(result) for name in bug.breaks.split()):
            return seed, str(result)
    return 0, ""
