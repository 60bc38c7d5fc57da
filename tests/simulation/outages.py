"""One part of the cluster is out for long, everything else is well, and payments come in crowds.

As nothing else fails, it is known what must go on meanwhile, and how soon. That is checked here, beside the auditor's
usual checks. The part that is out comes back by itself; then everything that was begun ends (G9).
"""

import asyncio
import itertools
from collections.abc import Iterable, Sequence
from typing import Final

from simulation.callers import Callers, Payment
from simulation.cluster import Cluster
from simulation.profile import LOST
from simulation.redis_node import MISCONF, RedisNode

from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.recovery.snapshotting import make_snapshots
from wallet_engine.routing.slots import partition_of

#: All in virtual seconds. A payment between partitions that are well is decided within this time.
DECIDED_S_MAX: Final = 5.0
#: If its service was killed, a sweeper has ended it within this time.
ENDED_S_MAX: Final = 8.0
#: A journal copy that is back must have entries of this age, in every partition at once,
LATE_S_MAX: Final = 1.0
#: within this time, under light traffic.
RETURNED_S_MAX: Final = 5.0
#: No money leaves for a shard that has been stopped for this long: a service has missed a reply, and holds the shard.
REFUSED_S_MIN: Final = 6.5
#: Services that get requests report the outage within this time.
NOTED_S_MAX: Final = 4.0


class Outage:
    """The outage of a run whose profile names one; `happen` is part of its traffic."""

    def __init__(self, cluster: Cluster, callers: Callers) -> None:
        self.cluster = cluster
        self.callers = callers
        self.world = cluster.world
        self.rng = cluster.world.rng
        self.auditor = cluster.auditor
        self.partitions = range(cluster.profile.partitions)
        #: How many accounts were made during the outage.
        self._made = 0
        #: Partitions that are out, and since when (virtual ms).
        self._out: frozenset[int] = frozenset()
        self._since_ms = 0
        #: How often each service had been started when the outage began.
        self._starts: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Outage {self.cluster.profile.outage} out={sorted(self._out)}>"

    async def happen(self) -> None:
        await {
            "shard_stopped": self.shard_stopped,
            "shard_refuses": self.shard_refuses,
            "journal_away": self.journal_away,
            LOST: self.directory_lost,
        }[self.cluster.profile.outage]()

    # Outages ---------------------------------------------------------------------------------------------

    async def shard_stopped(self) -> None:
        """A primary stops (SIGSTOP), and no replica is promoted; a service dies meanwhile."""
        lasts_s = 9.0 + 4.0 * self.rng.random()
        leaver = await self._leaver()
        node = self._take_out(lasts_s)
        node.stalled_until_us = self.world.now_us + int(lasts_s * 1e6)
        leaving = asyncio.ensure_future(self._leave(leaver))
        crowd = asyncio.ensure_future(self._crowd(0.4, self._well, self._out))
        await asyncio.sleep(0.6)
        await self._lose_a_driver()
        await self._well_go_on()
        await self._until(REFUSED_S_MIN + 0.3)
        late = asyncio.ensure_future(self._crowd(1.0, self._well, self._out))
        await self._well_go_on()
        await asyncio.gather(crowd, late, leaving)
        await self._until(lasts_s)
        self._out = frozenset()

    async def shard_refuses(self) -> None:
        """A primary answers, and takes no writes (MISCONF): what it refuses must not have happened."""
        lasts_s = 4.0 + 3.0 * self.rng.random()
        node = self._take_out(lasts_s)
        node.refuse_writes(MISCONF)
        crowd = asyncio.ensure_future(self._crowd(1.0, self.partitions, self.partitions))
        await self._well_go_on()
        await self._until(lasts_s)
        node.refuse_writes("")
        self._out = frozenset()
        await crowd

    async def journal_away(self) -> None:
        """A copy is away while streams lose entries that it lacks, and comes back while payments go on."""
        everywhere, journal = self.partitions, self.rng.choice(self.cluster.journals)
        journal.kill()
        await self._crowd(2.0, everywhere, everywhere)
        await asyncio.sleep(1.5)
        for each in self.cluster.journals:
            make_snapshots(each.directory)
        journal.start()
        crowd = asyncio.ensure_future(self._crowd(RETURNED_S_MAX, everywhere, everywhere))
        await asyncio.sleep(RETURNED_S_MAX - LATE_S_MAX)
        seqs = [state.seq for state in self.auditor.state]
        await asyncio.sleep(LATE_S_MAX)
        has = [self.auditor.reached(journal.name, partition) for partition in everywhere]
        if any(seq > there for seq, there in zip(seqs, has, strict=True)):
            self.world.violate(f"G9: {journal.name} is back for {RETURNED_S_MAX} s and has {has} of {seqs}")
        self.cluster.redis_empty()  # it is filled from a snapshot and the entries after it
        await crowd

    async def directory_lost(self) -> None:
        """ZooKeeper comes back without its data, which are restored later: payments go on all the time."""
        everywhere, keeper, known = self.partitions, self.cluster.keeper, self.cluster.placement
        lost = keeper.lose()
        crowd = asyncio.ensure_future(self._crowd(2.0, everywhere, everywhere))
        await asyncio.sleep(3.0 * self.rng.random())
        await self._well_go_on()
        keeper.put_back(lost, known)
        await self._well_go_on()
        self.cluster.redis_empty()  # it is filled under an epoch above the restored ones
        await crowd
        await self._well_go_on()
        newcomer = self.rng.choice(self.cluster.services)
        newcomer.kill()
        newcomer.start()
        await asyncio.sleep(DECIDED_S_MAX)
        found = None if newcomer.wallet is None else newcomer.wallet.readiness()
        if found is None or found.status != "ready":
            self.world.violate(f"G9: {newcomer.name} was started {DECIDED_S_MAX} s ago, and is {found}")

    def _take_out(self, lasts_s: float) -> RedisNode:
        """Choose a shard and note that it is out; returns its primary."""
        shard = self.rng.choice(self.cluster.shards)
        self._out = frozenset(self.cluster.placement.partitions_of(shard.name))
        self._since_ms = self.world.now_ms
        self._starts = {service.name: service.starts for service in self.cluster.services}
        self.world.note(f"out for {lasts_s:.1f} s: {shard.primary.address}, partitions {sorted(self._out)}")
        self._look()
        return shard.primary

    async def _until(self, age_s: float) -> None:
        await asyncio.sleep(max(0.0, self._since_ms / 1000 + age_s - self.world.now_ms / 1000))

    # Payments --------------------------------------------------------------------------------------------

    @property
    def _well(self) -> list[int]:
        return [partition for partition in self.partitions if partition not in self._out]

    def _accounts(self, partitions: Iterable[int]) -> list[str]:
        count = len(self.partitions)
        return [name for name in self.callers.accounts if partition_of(name, count) in partitions]

    async def _crowd(self, within_s: float, payers: Iterable[int], payees: Iterable[int]) -> None:
        """Payments from `payers` to `payees` (partitions), each asked for once."""
        senders, receivers = self._accounts(payers), self._accounts(payees)
        await asyncio.gather(
            *(
                self._pay_after(self.rng.random() * within_s, senders, receivers)
                for _ in range(self.cluster.profile.crowd)
            )
        )

    async def _pay_after(self, delay_s: float, payers: Sequence[str], payees: Sequence[str]) -> None:
        payer = self.rng.choice(payers)
        payee = self.rng.choice([name for name in payees if name != payer])
        await asyncio.sleep(delay_s)
        await self._pay(self.callers.new_payment(payer, payee, self.rng.randint(1, 3), "USD"))

    async def _pay(self, payment: Payment) -> None:
        await self.callers.once(payment)
        key = (payment.command.from_account, payment.command.transaction)
        if payment.said == "outcome_unknown" and self._connected and key not in self.auditor.ran:
            self.world.violate(f"G14: outcome_unknown answered to {key}, of which nothing ran")

    @property
    def _connected(self) -> bool:
        """Whether this outage loses no process and no connection."""
        return self.cluster.profile.outage == "shard_refuses"

    async def _well_go_on(self) -> None:
        """G10: payments inside and between partitions that are well are decided soon."""
        pairs = [self._accounts([p]) for p in self._well]
        pairs += [[a[0], b[0]] for a, b in itertools.pairwise(pairs)]
        await asyncio.gather(*(self._decided_soon(payer, payee) for payer, payee in pairs))

    async def _decided_soon(self, payer: str, payee: str) -> None:
        payment, began_ms = self.callers.new_payment(payer, payee, 1, "USD"), self.world.now_ms
        while payment.answer is None:
            if self.world.now_ms - began_ms > DECIDED_S_MAX * 1000:
                self.world.violate(f"G10: only {sorted(self._out)} are out, and {payment} is not decided")
                return
            await self._pay(payment)
            await asyncio.sleep(0.1)

    async def _lose_a_driver(self) -> None:
        """Kill a service that has payments between healthy partitions on their way."""
        accounts = self._accounts(self._well)
        paying = [self._pay_after(0.01 * self.rng.random(), accounts, accounts) for _ in range(12)]
        crowd = asyncio.ensure_future(asyncio.gather(*paying))
        await asyncio.sleep(0.012 * self.rng.random())
        service = self.rng.choice(self.cluster.services)
        service.kill()
        service.start_later(0.3 * self.rng.random())
        await crowd

    async def _leaver(self) -> TransferCommand:
        """The payment of all money of a new account to an account that does not exist."""
        count, shard = len(self.partitions), self.rng.choice(self.cluster.shards)
        self._made += 1
        name = f"leaver{self._made}"
        await self.callers.open_with(name, 7, "USD")
        others = self.cluster.placement.partitions_of(shard.name)
        strangers = (f"stranger{n}" for n in range(10_000))
        payee = next(s for s in strangers if partition_of(s, count) in others)
        return TransferCommand(name, payee, 7, "USD", "")

    async def _leave(self, last: TransferCommand) -> None:
        """Pay it, and close the account, even while the money is on its way and may come back."""
        payment = self.callers.new_payment(last.from_account, last.to_account, 7, "USD")
        paying = asyncio.ensure_future(self._pay(payment))
        for _ in range(3):
            await asyncio.sleep(0.2)
            await self.callers.ask(lambda w: w.set_flags(last.from_account, "close"), lambda _: None)
        await paying

    # What must be true meanwhile -------------------------------------------------------------------------

    def _look_at_readiness(self) -> None:
        """G14: a service that has run since the outage began, and got requests, must not say that it is ready."""
        out_s = (self.world.now_ms - self._since_ms) / 1000
        for service in self.cluster.services if out_s > NOTED_S_MAX else ():
            if service.wallet is not None and service.starts == self._starts[service.name]:
                found = service.wallet.readiness()
                if found.status == "ready":
                    self.world.violate(
                        f"G14: {service.name} is ready, and {sorted(self._out)} are out for {out_s:.1f} s"
                    )

    def _look(self) -> None:
        """Check four times a second, until the part that is out is back."""
        if not self._out:
            return
        self._look_at_readiness()
        count = len(self.partitions)
        for reference, debit in self.auditor.debits.items():
            if debit.ended:
                continue
            payer, payee = reference[0], partition_of(debit.to, count)
            age_ms = self.world.now_ms - debit.time_ms
            if payer not in self._out and payee not in self._out and age_ms > ENDED_S_MAX * 1000:
                self.world.violate(
                    f"G9: open for {age_ms} ms while only {sorted(self._out)} are out: {debit}"
                )
            begun_ms = debit.time_ms - self._since_ms
            if payee in self._out and begun_ms > REFUSED_S_MIN * 1000:
                self.world.violate(f"G10: money left for {payee}, out for {begun_ms} ms: {debit}")
        self.world.after(250_000, self._look)
