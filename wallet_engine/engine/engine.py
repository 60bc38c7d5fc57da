"""The engine of one service: operations in, durable outcomes out.

A commit is: one script call for what partitions of a shard have waiting, then the receipts of each partition's nonce
from `journal_quorum` journal copies, then the results. The caller may be gone by then; nothing is cancelled.
"""

import asyncio
from functools import partial
from itertools import groupby, repeat
from operator import attrgetter
from typing import Any, Final

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.operation import Words
from wallet_engine.engine.accumulator import HOLD_MS_MAX, Accumulator
from wallet_engine.engine.batch import Batch, Pending
from wallet_engine.engine.call import Call, Filling, joined
from wallet_engine.engine.clocks import Clocks
from wallet_engine.engine.cluster import ClusterView
from wallet_engine.engine.conditions import Condition, condition_of, condition_of_error
from wallet_engine.engine.headroom import Headroom, stream_full
from wallet_engine.engine.horizons import Horizons
from wallet_engine.engine.lookout import Lookout
from wallet_engine.engine.observer import Observer
from wallet_engine.engine.passage import Passage
from wallet_engine.engine.prober import probe
from wallet_engine.engine.refusals import ScriptRefusal, batch_refusal_in, error_in
from wallet_engine.engine.riders import Riders
from wallet_engine.engine.wave import Wave
from wallet_engine.engine.written import Written
from wallet_engine.redis_store.connection import ConnectionLost, NotSent
from wallet_engine.redis_store.refusals import Meaning, Refusal
from wallet_engine.routing.directory import Directory
from wallet_engine.telemetry.logging import get_logger
from wallet_engine.telemetry.metrics import Metrics

#: How long a batch waits for its receipts; then its callers are told that the outcome is not known.
RECEIPT_TIMEOUT_S: Final = 20.0
#: The same after a recovery, once the partition serves again: the receipt comes now, or the entry was lost
#: with the memory of Redis.
RECEIPT_TIMEOUT_AFTER_RECOVERY_S: Final = 0.5
#: Interval of retries of held partitions. Also the minimum time that a rider waits for other operations of
#: its partition; the maximum is twice as long.
HOLD_RETRY_S: Final = 0.05

_by_shard: Final = attrgetter("shard")
log = get_logger(__name__)


class Engine:
    """See the module. Create and use it on one event loop."""

    def __init__(self, directory: Directory, metrics: Metrics, horizons: Horizons | None = None) -> None:
        self.metrics = metrics
        self.horizons = horizons or Horizons()
        #: See `Horizons`; known once the configuration is.
        self.look_up_age_ms = 0
        #: For each partition: which entries have certainly existed for that long.
        self.passages: list[Passage] = []
        self.cluster = ClusterView(directory, on_change=self._release_all, on_lost=self._hold_shard)
        self.tracker = self.cluster.tracker
        self.headroom = Headroom(self.cluster)
        self.clocks = Clocks(self.cluster)
        self._observer = Observer(metrics)
        self.lookout = Lookout(self.cluster, self.headroom, self.clocks, self._observer)
        self._loop = asyncio.get_running_loop()
        #: This process' monotonic clock in seconds; all waiting is measured by it.
        self.now_s = self._loop.time
        self.wave = Wave(self._send)
        self._held: set[Accumulator] = set()
        self._written = Written(self.tracker.written)
        self._closed = False
        #: Operations that go along with others.
        self.riders = Riders()
        self._awaiting: dict[str, Batch] = {}
        self._house: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Engine {self.cluster!r} awaiting={len(self._awaiting)} held={len(self._held)}>"

    async def start(self) -> None:
        """Connect to ZooKeeper's (or the file's) view of the cluster. Raises `ConfigError`."""
        await self.cluster.start()
        self.look_up_age_ms = self.horizons.look_up_age(self.cluster.config.retention_ms)
        self.passages = [Passage(self.look_up_age_ms / 1000) for _ in self.cluster.accumulators]
        for accumulator in self.cluster.accumulators:  # held until a probe finds it live
            accumulator.hold("starting", self.now_s())
            self._held.add(accumulator)
            self.lookout.note(accumulator, Condition.STARTING, "not yet heard of")
        self.lookout.started()
        self._house = asyncio.create_task(self._keep_house(), name="engine-house")
        self.headroom.start()
        self.clocks.start()

    async def close(self) -> None:
        """Stop taking operations; those in flight get their answer or `outcome_unknown`."""
        self._closed = True
        if self._house is not None:
            self._house.cancel()
            await asyncio.gather(self._house, return_exceptions=True)
        await self.headroom.close()
        await self.clocks.close()
        await self.cluster.close()
        for batch in list(self._awaiting.values()):
            batch.fail(Outage("outcome_unknown", "the service is stopping"))
        self._awaiting.clear()

    # In --------------------------------------------------------------------------------------------------

    def submit(self, partition: int, operation: Words, item: Pending, issued_s: float) -> None:
        """Queue one operation that was issued at `issued_s` (`now_s`). Raises `Outage`."""
        accumulator = self.cluster.accumulators[partition]
        if accumulator.add(operation, item, issued_s):
            self.wave.join(accumulator)

    def is_old(self, partition: int, seq: int, recorded_ms: int, partition_ms: int = 0) -> bool:
        """Whether the receivers of an entry's money may have forgotten its credits; see `Clocks.may_be_older`."""
        if self.passages[partition].passed(seq, self.now_s()):
            return True  # whatever clocks say
        return self.clocks.may_be_older(recorded_ms, self.look_up_age_ms, partition_ms)

    # Out -------------------------------------------------------------------------------------------------

    def _send_riders(self) -> None:
        for accumulator in map(self.cluster.accumulators.__getitem__, self.riders.overdue()):
            if self.riders.board(accumulator, self.now_s()):
                self._schedule(accumulator)

    def _schedule(self, accumulator: Accumulator) -> None:
        if accumulator.wants_turn:
            self.wave.join(accumulator)

    def _send(self, accumulators: list[Accumulator]) -> None:
        """Send each shard its part of the wave in few calls; it works while the next part is packed."""
        for shard, waiting in groupby(sorted(accumulators, key=_by_shard), _by_shard):
            filling: Filling = {}
            for accumulator in waiting:
                if accumulator.partition in self.riders.waiting:
                    self.riders.board(accumulator, self.now_s())
                batch = accumulator.take()
                if batch is not None:
                    batch.on_end = self.wave.back
                    self.wave.left(batch.nonce)
                    self._join(filling, accumulator, batch)
            for call in joined(filling):
                self._transmit(call)
            lane = self.cluster.lanes.get(shard)
            if lane is not None:
                lane.flush()

    def _send_again(self, accumulator: Accumulator, batch: Batch) -> None:
        filling: Filling = {}
        self._join(filling, accumulator, batch)
        for call in filling.values():
            self._transmit(call)

    def _join(self, filling: Filling, accumulator: Accumulator, batch: Batch) -> None:
        """Add a batch to the shard's call for its text of the script; send that call when it is full."""
        if batch.issued_s < accumulator.remembers_since_s:
            self._give_up(accumulator, batch, ScriptRefusal("FORGOTTEN", str(accumulator.window)))
            return
        lane = self.cluster.lanes.get(accumulator.shard)
        try:
            part = accumulator.part(batch, lane.clock.ms_at(batch.issued_s) if lane is not None else 0)
        except Exception as error:  # a bug in one operation must not leave the other batches unsent
            self._give_up(accumulator, batch, ScriptRefusal("UNPACKED", repr(error)))
            return
        batch.epoch = accumulator.epoch
        call = filling.pop(batch.extended, None)
        if call is not None and not call.takes(batch):
            self._transmit(call)
            call = None
        call = call or Call(accumulator.shard, batch.extended)
        call.add(accumulator, batch, part)
        if call.is_good:
            self._transmit(call)
        else:
            filling[batch.extended] = call

    def _transmit(self, call: Call) -> None:
        call.sent_s = self._loop.time()
        for accumulator, batch in call.batches:
            batch.sent_s = call.sent_s
            batch.deadline_s = call.sent_s + RECEIPT_TIMEOUT_S
            batch.on_durable = partial(self._on_durable, accumulator, batch)
            self.tracker.expect_new(batch.partition, batch.nonce, batch.on_durable)
        config = self.cluster.config
        command = call.command(
            config.retention_ms, config.stream_entries_max, self.horizons.issued_age_ms_max
        )
        try:
            lane = self.cluster.lanes[call.shard]
            lane.send(command, partial(self._on_reply, call))
            self._written.sent()
            if call.is_good:  # packing the next ones takes time
                lane.flush()
        except (NotSent, KeyError):
            why = f"shard {call.shard} is not reachable"
            for accumulator, batch in call.batches:
                self._put_back(accumulator, batch, Condition.UNREACHABLE, why)

    def _on_reply(self, call: Call, reply: Any) -> None:
        """Pass each batch its answer. An error for the whole call is the answer to each of its partitions."""
        failure: Exception | None = None
        seconds = self._loop.time() - call.sent_s
        if type(reply) is list:
            self._observer.applied(call.shard, call.operations, seconds)
        count = len(call.batches)
        answers = reply if type(reply) is list and len(reply) == count else repeat(reply, count)
        try:
            for (accumulator, batch), answer in zip(call.batches, answers, strict=True):
                try:
                    self._on_answer(accumulator, batch, answer)
                except Exception as error:  # a bug in one batch must not leave the others without an answer
                    failure = failure or error
                    self._on_bug(accumulator, batch, error)
        finally:
            self._written.answered()
        if failure is not None:
            raise failure

    def _on_answer(self, accumulator: Accumulator, batch: Batch, answer: Any) -> None:
        if type(answer) is bytes:
            self._on_applied(accumulator, batch, answer)
        elif isinstance(answer, ConnectionLost):
            self.tracker.forget(batch.nonce)
            self._hold(accumulator, Condition.UNREACHABLE, str(answer))
            self._answered(accumulator)
            batch.fail(Outage("outcome_unknown", "the Redis node went away before it answered"))
        elif error := error_in(answer):
            self._on_error(accumulator, batch, error)
        else:
            self._on_refusal(accumulator, batch, batch_refusal_in(answer))

    def _on_bug(self, accumulator: Accumulator, batch: Batch, error: Exception) -> None:
        """A batch whose answer is not understood holds neither its callers nor its partition up for ever."""
        log.critical("the answer to a batch was not taken", batch=repr(batch), exc_info=error)
        if accumulator.batch is batch:
            self.tracker.forget(batch.nonce)
            self._answered(accumulator)
            batch.fail(Outage("outcome_unknown", "internal error: the answer was not understood"))

    def _on_applied(self, accumulator: Accumulator, batch: Batch, reply: bytes) -> None:
        batch.accept(reply)
        if batch.effective_nonce != batch.nonce and self._behind(accumulator, batch):
            return
        accumulator.behind = 0
        batch.answered_s = self._loop.time()
        if accumulator.held_since_s is not None:
            self._release(accumulator)
        elif self.lookout.troubles:
            self.lookout.passed(accumulator)
        # The receipt was faster than the reply, or there is no entry at all.
        if batch.durable or batch.seq == 0:
            self.tracker.forget(batch.nonce)
            self._answered(accumulator)
            batch.commit()
            return
        accumulator.undurable += 1
        self._answered(accumulator)
        self._awaiting[batch.nonce] = batch
        if batch.effective_nonce == batch.nonce:
            self.tracker.placed(batch.nonce, batch.seq)
            self._written.add(batch.new_entry())
        else:  # nothing was written: wait for the entry that is the newest
            self.tracker.forget(batch.nonce)
            self.tracker.ask_needed(batch.partition, batch.seq, batch.effective_nonce, batch.on_durable)

    def _behind(self, accumulator: Accumulator, batch: Batch) -> bool:
        """Whether a batch without changes was decided on older state than the journal's; then it goes again.

        Either another service has just written, or this node was promoted with lagging data and is not
        recovered yet: then it must not answer from its dedupe memory.
        """
        if batch.seq >= self.tracker.latest_seq(batch.partition):
            return False
        accumulator.behind += 1
        if accumulator.behind > 1:
            self.cluster.ask_recovery(accumulator.shard, f"partition {batch.partition} is behind the journal")
        self._put_back(accumulator, batch, Condition.RECOVERING, "behind the journal")
        return True

    def _on_durable(self, accumulator: Accumulator, batch: Batch) -> None:
        batch.durable = True
        if batch.applied:
            self._commit(accumulator, batch)

    def _commit(self, accumulator: Accumulator, batch: Batch) -> None:
        del self._awaiting[batch.nonce]
        self._observer.durable(self._loop.time() - batch.answered_s)
        accumulator.undurable -= 1
        self._schedule(accumulator)
        batch.commit()

    def _answered(self, accumulator: Accumulator) -> None:
        """Redis has answered the batch that was out, or never will; the next one may go."""
        accumulator.batch = None
        self._schedule(accumulator)

    def _on_refusal(self, accumulator: Accumulator, batch: Batch, refusal: ScriptRefusal) -> None:
        """The script refused the whole batch: nothing was written."""
        if self.cluster.heed_script(accumulator, refusal):
            batch.wants_all_currencies = batch.wants_all_currencies or refusal.code == "CURRENCIES"
            batch.cut(accumulator.operations_max)
            self.tracker.forget(batch.nonce)
            self._send_again(accumulator, batch)
        elif refusal.guarded:
            self._put_back(accumulator, batch, condition_of(refusal), refusal.why)
        elif refusal.code == "FULL":
            self._on_full(accumulator, batch, int(refusal.shown))
        elif refusal.code == "EXPIRED" and self._is_fresh(batch):
            self._on_stepped(accumulator, batch, int(refusal.shown))
        else:
            self._give_up(accumulator, batch, refusal)

    def _is_fresh(self, batch: Batch) -> bool:
        return (self.now_s() - batch.issued_s) * 1000 <= self.horizons.issued_age_ms_max

    def _on_stepped(self, accumulator: Accumulator, batch: Batch, node_ms: int) -> None:
        """The node refused a fresh batch as too old or too new: its clock has stepped since the last look."""
        lane = self.cluster.lanes.get(accumulator.shard)
        if lane is not None:
            lane.clock.shows(node_ms, self.now_s())
        self.tracker.forget(batch.nonce)
        self._send_again(accumulator, batch)

    def _on_full(self, accumulator: Accumulator, batch: Batch, entries: int) -> None:
        """Refuse operations that begin new work. Send the others again alone, or leave them to sweepers."""
        outage = stream_full(batch.partition, entries)
        self.headroom.close_door(batch.partition, Condition.FULL, outage)
        self.tracker.forget(batch.nonce)
        ending = batch.take_ending()
        if ending is not None:
            accumulator.put_back(ending)
        self._answered(accumulator)
        batch.fail(outage)

    def _give_up(self, accumulator: Accumulator, batch: Batch, refusal: ScriptRefusal) -> None:
        self.tracker.forget(batch.nonce)
        self._answered(accumulator)
        if refusal.code in ("EXPIRED", "FORGOTTEN"):
            outage = Outage("overloaded", "the operation waited too long in this service")
        else:
            log.critical("the script refused a batch that must not exist", why=refusal.why, batch=repr(batch))
            outage = Outage("partition_unavailable", "internal error: the batch was refused as malformed")
        batch.fail(outage)

    def _on_error(self, accumulator: Accumulator, batch: Batch, refusal: Refusal) -> None:
        """Handle an error of Redis itself, which is not a refusal by the script."""
        self.cluster.heed_refusal(accumulator.shard, refusal)
        if refusal.meaning is Meaning.MEMORY:
            self.headroom.exhausted(accumulator.shard)
            self.tracker.forget(batch.nonce)
            self._answered(accumulator)
            batch.fail(Outage("overloaded", f"shard {accumulator.shard} is out of memory"))
        elif refusal.meaning is Meaning.UNKNOWN:
            log.critical("Redis failed a script call", error=refusal.text, batch=repr(batch))
            self.tracker.forget(batch.nonce)
            self._hold_refused(accumulator, refusal)
            self._answered(accumulator)
            batch.fail(Outage("outcome_unknown", f"Redis refused: {refusal.text}"))
        else:
            self._put_back(accumulator, batch, condition_of_error(refusal), refusal.why(accumulator.shard))

    # Held partitions -------------------------------------------------------------------------------------

    def _put_back(self, accumulator: Accumulator, batch: Batch, condition: Condition, why: str) -> None:
        self.tracker.forget(batch.nonce)
        accumulator.put_back(batch)
        batch.end()
        self._hold(accumulator, condition, why)

    def _hold(self, accumulator: Accumulator, condition: Condition, why: str) -> None:
        if accumulator not in self._held:
            log.warning("partition held", partition=accumulator.partition, condition=condition, why=why)
            self._held.add(accumulator)
        accumulator.hold(why, self.now_s())
        self.lookout.note(accumulator, condition, why)

    def _hold_shard(self, shard: str) -> None:
        """The shard's connection broke: hold all its partitions before each of them loses an operation."""
        if self._closed:
            return
        for accumulator in self.cluster.accumulators:
            if accumulator.shard == shard:
                self._hold(accumulator, Condition.UNREACHABLE, f"shard {shard} is not reachable")

    def _hold_refused(self, accumulator: Accumulator, refusal: ScriptRefusal | Refusal) -> None:
        if isinstance(refusal, ScriptRefusal):
            self._hold(accumulator, condition_of(refusal), refusal.why)
        else:
            self._hold(accumulator, condition_of_error(refusal), refusal.why(accumulator.shard))

    def _release(self, accumulator: Accumulator) -> None:
        self._held.discard(accumulator)
        log.info("partition served again", partition=accumulator.partition)
        accumulator.release()
        self.headroom.open_door(accumulator.partition, Condition.UNREACHABLE)
        self.lookout.well(accumulator)
        soon_s = self._loop.time() + RECEIPT_TIMEOUT_AFTER_RECOVERY_S
        for batch in self._awaiting.values():
            if batch.partition == accumulator.partition and batch.epoch != accumulator.epoch:
                batch.deadline_s = min(batch.deadline_s, soon_s)

    def _release_all(self) -> None:
        """The map or a connection changed: retry held partitions; hold and retry those with older batches."""
        for batch in self._awaiting.values():
            accumulator = self.cluster.accumulators[batch.partition]
            if batch.epoch != accumulator.epoch:
                self._hold(accumulator, Condition.FENCED, f"epoch {accumulator.epoch}")
        for accumulator in list(self._held):
            self._retry(accumulator)

    def _retry(self, accumulator: Accumulator) -> None:
        if accumulator.may_send:
            self._schedule(accumulator)
        elif accumulator.batch is None and not accumulator.probing:
            probe(self.cluster, accumulator, self._release, self._hold_refused, self._schedule)

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(HOLD_RETRY_S)
            try:
                self._tidy(self.now_s())
            except Exception:
                log.exception("tidying failed")

    def _tidy(self, now_s: float) -> None:
        """Send riders, refuse what waited too long, retry held partitions, give up on missing receipts."""
        self._send_riders()
        self.lookout.look(self._awaiting.values(), now_s)
        for accumulator in list(self._held):
            since_s = accumulator.held_since_s
            if since_s is not None and (now_s - since_s) * 1000 > HOLD_MS_MAX:
                outage = Outage(
                    "partition_unavailable",
                    f"partition {accumulator.partition} is not served now ({accumulator.held_why})",
                )
                self.headroom.close_door(accumulator.partition, Condition.UNREACHABLE, outage)
                for item in accumulator.drop_all():
                    item.failed(outage)
            self._retry(accumulator)
        for batch in [batch for batch in self._awaiting.values() if batch.deadline_s < now_s]:
            del self._awaiting[batch.nonce]
            self.tracker.forget(batch.effective_nonce, batch.on_durable)
            accumulator = self.cluster.accumulators[batch.partition]
            accumulator.undurable -= 1
            self._schedule(accumulator)
            batch.fail(Outage("outcome_unknown", "the journal did not confirm the entry in time"))
