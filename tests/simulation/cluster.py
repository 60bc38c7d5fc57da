"""A whole simulated cluster: Redis nodes, journals, services and ZooKeeper in one world, and the faults that strike."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from simulation.auditor import Auditor, Debit
from simulation.blocking import Clients
from simulation.commands import copy_store
from simulation.directory_tree import Keeper, SimTree
from simulation.moves import Mover
from simulation.network import Network
from simulation.processes import JournalProcess, Process, ServiceProcess
from simulation.profile import Profile
from simulation.redis_node import MISCONF, RedisNode
from simulation.substitutes import HORIZONS, RETENTION_MS
from simulation.world import ProcessLoop, World

from wallet_engine.domain.errors import ConfigError
from wallet_engine.domain.limits import AMOUNT_MINOR_MAX
from wallet_engine.redis_store.topology import NodeView
from wallet_engine.routing.directory import MAP, MEMBERS, Directory
from wallet_engine.routing.model import ClusterConfig, PartitionMap, Shard, decode_map, spread
from wallet_engine.routing.slots import slot_range

#: How often nodes tell each other which slots they have.
GOSSIP_US: Final = 300_000
#: A process that is stopped for longer loses its session with ZooKeeper, and its locks.
SESSION_US: Final = 1_000_000
#: How often `recovery_paused` looks for a recovery, and for how long.
RECOVERY_LOOK_US: Final = 300
RECOVERY_LOOKS_MAX: Final = 20_000

ISSUED_AGE_US: Final = HORIZONS.issued_age_ms_max * 1000


class SimShard:
    """Two nodes: a primary, and the standby that a failover would promote."""

    def __init__(self, name: str, nodes: tuple[RedisNode, RedisNode]) -> None:
        self.name = name
        self.nodes = nodes
        self.primary, self.standby = nodes

    def __repr__(self) -> str:
        return f"<SimShard {self.name} primary={self.primary!r}>"


class Cluster:
    """Create it, `start` it, and let the world run. A method with the name of a fault injects that fault."""

    def __init__(self, world: World, profile: Profile, directory: Path) -> None:
        self.world = world
        self.profile = profile
        self.keeper = Keeper(world)
        #: Whether nothing fails any more.
        self.healed = False
        self.network = Network(world)
        self.network.repeat_receipts = profile.repeat_receipts
        self.auditor = Auditor(world, profile.partitions, profile.quorum, RETENTION_MS)
        self.shards = [self._make_shard(number) for number in range(1, profile.shards + 1)]
        self._map = spread(profile.partitions, [shard.name for shard in self.shards])
        for node in self.nodes:
            node.ranges = {
                (own := slot_range(p, profile.partitions))[0]: own for p in range(profile.partitions)
            }
            node.slots = {
                slot: (self._map.shard_of(p), node.config_epoch) for p, slot in enumerate(node.ranges)
            }
        self.clients = Clients(world, self.nodes, self._reached)
        self.mover = Mover(world, self.keeper, self.network, [shard.name for shard in self.shards])
        self._directory, self._copies_made = directory, 0
        self.journals = [self._make_journal() for _ in range(profile.journals)]
        #: Their disks are lost. One may have marked a chain just before, so that its epoch is in force.
        self.lost_journals: list[JournalProcess] = []
        self.services = [
            ServiceProcess(world, self.keeper, self.network, f"api{n}", holds=profile.holds)
            for n in range(1, profile.services + 1)
        ]

    def __repr__(self) -> str:
        return f"<Cluster {self.shards!r} {self.processes!r}>"

    @property
    def placement(self) -> PartitionMap:
        """The map as ZooKeeper has it."""
        node = self.keeper.nodes.get(MAP)
        if node is not None and (node.version != self._map.version):
            self._map = decode_map(node.data, node.version, MAP)
        return self._map

    @property
    def processes(self) -> list[Process]:
        return [*self.services, *self.journals]

    @property
    def nodes(self) -> list[RedisNode]:
        return [node for shard in self.shards for node in shard.nodes]

    def _make_shard(self, number: int) -> SimShard:
        nodes = tuple(
            RedisNode(self.world, f"r{number}{side}:7000", f"id-r{number}{side}", f"s{number}")
            for side in "ab"
        )
        for node in nodes:
            node.image_chance = self.profile.image_chance
            node.on_script = self.auditor.script_ran
            node.on_live = self._went_live
            node.on_trim = self.auditor.trimmed
            node.on_claim = self._claimed
            node.epoch_max = lambda: max(node.config_epoch for node in self.nodes)
            node.skew_us = self.world.rng.randint(-40_000, 40_000)
            self.network.hosts[node.address] = node.accept
        nodes[1].primary = False
        nodes[0].peer, nodes[1].peer = nodes[1], nodes[0]
        return SimShard(f"s{number}", (nodes[0], nodes[1]))

    def _make_journal(self) -> JournalProcess:
        self._copies_made += 1
        name = f"j{self._copies_made}"
        return JournalProcess(
            self.world, self.keeper, self.network, name, self._directory / name, self.auditor
        )

    def _went_live(self, node: RedisNode, meta_key: bytes) -> None:
        """An epoch of a partition is in force: the chain it began with, marked by a quorum, counts from now on."""
        partition = self.auditor.partition_of(meta_key)
        epoch = int(node.store[meta_key][b"epoch"])
        for journal in (*self.journals, *self.lost_journals):
            if journal.chain is not None and journal.chain.view(partition) >= epoch:
                journal.receipt_withheld(partition)
        self.auditor.went_live(node, partition)

    def _claimed(self, node: RedisNode, slot: int, node_id: str) -> None:
        """A node was told which node owns a slot."""
        owner = next(each for each in self.nodes if each.node_id == node_id)
        node.slots[slot] = owner.shard, owner.config_epoch

    def _gossip(self) -> None:
        """Every primary tells every node in reach its slots; so does a demoted one that still thinks it is primary."""
        for one in self.nodes:
            for other in self.nodes:
                heard = one.alive and one.primary and other.alive and one is not other
                if heard and self.network.reaches(one.address, other.address):
                    for slot, (shard, _) in one.slots.items():
                        if shard == one.shard:
                            other.learn(slot, shard, one.config_epoch)
        self.world.after(GOSSIP_US, self._gossip)

    def start(self) -> None:
        """Initialise the directory and start every process."""
        setup = ProcessLoop(self.world, "admin")
        config = ClusterConfig(
            self.profile.partitions,
            RETENTION_MS,
            self.profile.quorum,
            stream_entries_max=self.profile.stream_entries_max,
        )
        shards = [Shard(shard.name, tuple(node.address for node in shard.nodes)) for shard in self.shards]
        Directory(SimTree(self.keeper, setup)).initialise(config, shards, self.placement)
        if "partition_moved" in self.profile.kinds:
            self._gossip()
        for process in self.processes:
            process.start()

    # What the engine asks about Redis --------------------------------------------------------------------

    def find_primary(self, addresses: Sequence[str], refused: list[str] | None = None) -> NodeView | None:
        """A stand-in for `topology.find_primary`."""
        views = [
            NodeView(node.address, node.node_id, True, node.config_epoch, tuple(node.owned()))
            for node in self.nodes
            if node.address in addresses and self._answers(node)
        ]
        owners = [view for view in views if view.slots] or views
        return max(owners, key=lambda view: view.config_epoch, default=None)

    def check_settings(self, address: str, **_: Any) -> None:
        """A stand-in for `topology.check_settings`."""
        if not any(node.address == address and node.alive and self._reached(node) for node in self.nodes):
            raise ConfigError(f"Redis at {address} does not answer")

    def _answers(self, node: RedisNode) -> bool:
        """Whether the node answers the running process as a primary."""
        stalled = node.stalled_until_us > self.world.now_us
        return node.alive and node.primary and not stalled and self._reached(node)

    def _reached(self, node: RedisNode) -> bool:
        running = self.world.running
        return running is None or self.network.reaches(running.process, node.address)

    # Faults ----------------------------------------------------------------------------------------------

    def strike(self, kind: str) -> None:
        """Inject one fault into a random victim; what dies comes back by itself."""
        self.world.note(f"fault: {kind}")
        getattr(self, kind)()

    def _seconds(self, low: float, high: float) -> float:
        """A random number of seconds, mostly near `low`."""
        return low + (high - low) * self.world.rng.random() ** 2

    def _any_shard(self) -> SimShard:
        return self.world.rng.choice(self.shards)

    def service_killed(self) -> None:
        service = self.world.rng.choice(self.services)
        service.kill()
        service.start_later(self._seconds(0.02, 2.0))

    def journal_killed(self) -> None:
        journal = self.world.rng.choice(self.journals)
        journal.kill()
        journal.start_later(self._seconds(0.02, 3.0))

    def journal_killed_at_sync(self) -> None:
        self.world.rng.choice(self.journals).die_at_sync = self.world.rng.choice(("before", "after"))

    def _all_count(self) -> bool:
        """Whether the journal copies that run are those that count."""
        node = self.keeper.nodes.get(MEMBERS)
        counted = set() if node is None else set(json.loads(node.data)["copies"])
        return counted == {journal.name for journal in self.journals}

    def copy_replaced(self) -> None:
        """A journal copy is lost with its disk, and an empty one takes its place, unless another one still joins."""
        if self._all_count() and self.profile.quorum > 1:
            place = self.world.rng.randrange(len(self.journals))
            lost, new = self.journals[place], self._make_journal()
            lost.kill()
            lost.gone, new.replaces = True, lost.name
            self.journals[place] = new
            self.lost_journals.append(lost)
            new.start_later(self._seconds(0.05, 2.0))

    def copy_added(self) -> None:
        """One copy more, unless another one still joins."""
        if self._all_count() and len(self.journals) <= self.profile.journals:
            new = self._make_journal()
            self.journals.append(new)
            new.start_later(self._seconds(0.05, 1.0))

    def redis_empty(self) -> None:
        """The process dies, and comes back empty."""
        self._restart(self._any_shard().primary, {})

    def redis_old_image(self) -> None:
        """The process dies, and comes back with the image that it saved a while ago."""
        node = self._any_shard().primary
        self._restart(node, copy_store(node.image))

    def redis_restarted(self) -> None:
        """The process dies and comes back with everything it had."""
        node = self._any_shard().primary
        self._restart(node, node.store)

    def _restart(self, node: RedisNode, store: dict[bytes, Any]) -> None:
        if not node.alive:
            return
        node.stop()
        self.world.after(int(self._seconds(0.005, 0.8) * 1e6), self._start_node, node, store)

    def _start_node(self, node: RedisNode, store: dict[bytes, Any]) -> None:
        if not node.alive:
            node.start(store)

    def redis_flushed(self) -> None:
        """FLUSHALL by hand; the process and its scripts stay."""
        self._any_shard().primary.store.clear()

    def redis_stalled(self) -> None:
        node = self._any_shard().primary
        node.stalled_until_us = self.world.now_us + int(self._seconds(0.01, 4.0) * 1e6)

    def failover(self) -> None:
        """The standby is promoted with the replicated data; the old primary dies, or does not know it yet."""
        shard, rng = self._any_shard(), self.world.rng
        if shard.primary.alive:
            old = shard.primary
            self.promote(shard, old.image if rng.random() < 0.7 else old.store)
            if rng.random() < 0.5:
                old.stop()
                self.demote(old)
            else:
                self.world.after(int(self._seconds(0.01, 3.0) * 1e6), self.demote, old)

    def promote(self, shard: SimShard, store: dict[bytes, Any]) -> None:
        """Make the standby primary with this memory; the old one does not know it."""
        old, new, rng = shard.primary, shard.standby, self.world.rng
        shard.primary, shard.standby = new, old
        new.config_epoch = new.epoch_max() + 1
        new.slots, new.importing = dict(old.slots), set()
        new.primary = True
        new.stalled_until_us = 0
        if rng.random() < 0.3:
            new.scripts = dict(old.scripts)
        new.start(old.replica_has(store), scripts=rng.random() < 0.5)

    def _fail_over(self, name: str) -> None:
        """A planned failover: the replica has all data of its primary, and keys that it was never told to drop."""
        shard = next(shard for shard in self.shards if shard.name == name)
        old = shard.primary
        self.promote(shard, old.store)
        self.demote(old)

    def demote(self, node: RedisNode) -> None:
        """The old primary learns that it is a replica now, and takes its successor's data."""
        if any(shard.primary is node for shard in self.shards):
            return
        node.alive = True
        node.primary = False

    def connection_reset(self) -> None:
        wires = self.network.open_wires()
        if wires:
            self.world.rng.choice(wires).reset()

    def process_paused(self) -> None:
        process = self.world.rng.choice(self.processes)
        self._pause(process.loop, int(self._seconds(0.05, 11.0) * 1e6))

    def _pause(self, loop: ProcessLoop, duration_us: int) -> None:
        self.world.pause(loop, duration_us)
        if duration_us > SESSION_US:
            self.world.after(SESSION_US, self.keeper.unlock, loop)

    def recovery_paused(self, looks: int = RECOVERY_LOOKS_MAX) -> None:
        """Stop the next journal process that recovers a shard, somewhere in that; another one may overtake it."""
        working = [loop for loop in self.keeper.locks.values() if not loop.paused]
        if working and self.world.rng.random() < 0.02:
            self._pause(self.world.rng.choice(working), int(self._seconds(1.5, 6.0) * 1e6))
        elif looks:
            self.world.after(RECOVERY_LOOK_US, self.recovery_paused, looks - 1)

    def directory_away(self) -> None:
        self.keeper.away = True
        self.world.after(int(self._seconds(0.05, 3.0) * 1e6), self.keeper.come_back)

    def slow_network(self) -> None:
        self.world.latency_factor = self._seconds(3, 60)
        self.world.after(int(self._seconds(0.05, 1.0) * 1e6), self._fast_network)

    def _fast_network(self) -> None:
        self.world.latency_factor = 1.0

    def everything_killed(self) -> None:
        """Every process and every Redis memory at once."""
        for shard in self.shards:
            if shard.primary.alive:
                self._restart(shard.primary, {})
        for process in self.processes:
            process.kill()
            process.start_later(self._seconds(0.02, 1.0))

    def network_split(self) -> None:
        """A primary is cut off with some processes, and goes on serving them; its shard may get another primary."""
        if self.network.island:
            return
        rng, shard = self.world.rng, self._any_shard()
        old = shard.primary
        journals_reach_all = rng.random() < 0.5
        some = self.services if journals_reach_all else self.processes
        names = frozenset(process.name for process in rng.sample(some, rng.randint(1, len(some) - 1)))
        bridge = {journal.name for journal in self.journals} if journals_reach_all else set()
        self.world.note(f"cut off: {old.address} {sorted(names)}, but not from {sorted(bridge)}")
        self.network.split(names | {old.address}, frozenset(bridge))
        self.keeper.cut(names)
        if rng.random() < 0.7 and old.alive:
            self.world.after(int(self._seconds(0.02, 1.0) * 1e6), self._promote_beside, shard, old)
        self.world.after(int(self._seconds(0.3, 8.0) * 1e6), self._join_network)

    def _promote_beside(self, shard: SimShard, old: RedisNode) -> None:
        if shard.primary is old and self.network.island:
            self.promote(shard, old.image if self.world.rng.random() < 0.7 else old.store)

    def _join_network(self) -> None:
        self.network.join()
        self.keeper.cut(frozenset())
        for shard in self.shards:
            self.world.after(int(self._seconds(0.01, 2.0) * 1e6), self.demote, shard.standby)

    def partition_moved(self) -> None:
        """The operator begins a move, or kills, stops, resumes or undoes one."""
        self.mover.strike(self.placement.shard_of, self.profile.partitions)

    def redis_refuses(self) -> None:
        """Redis takes no writes for a while: it cannot save its image, or has lost its replicas."""
        node = self._any_shard().primary
        node.refuse_writes(MISCONF)
        self.world.after(int(self._seconds(0.05, 4.0) * 1e6), node.refuse_writes, "")

    def clocks_stepped(self) -> None:
        """The clocks of some machines, or of all, go wrong by the same amount; after a while most are set right.

        They may step twice by more than the retention within seconds: then two windows seem to have passed.
        """
        world, rng = self.world, self.world.rng
        machines: list[Process | RedisNode] = [*self.processes, *self.nodes]
        chosen = machines if rng.random() < 0.4 else rng.sample(machines, rng.randint(1, 3))
        size_us = rng.choice((1_500_000, ISSUED_AGE_US * 3 // 2, RETENTION_MS * 1300, RETENTION_MS * 2600))
        ahead_us = size_us if rng.random() < 0.6 else -size_us
        twice_s = self._seconds(0.5, 3.0) if rng.random() < 0.4 else 0.0
        world.note(
            f"clocks of {chosen} go to {ahead_us / 1e6:+.1f} s{', and twice as far' if twice_s else ''}"
        )
        for machine in chosen:
            machine.set_clock(ahead_us)
            if twice_s:
                world.after(int(twice_s * 1e6), self._set_clock, machine, 2 * ahead_us)
            if rng.random() < 0.8:
                later_us, right_us = int(self._seconds(0.05, 6.0) * 1e6), rng.randint(-40_000, 40_000)
                world.after(later_us, self._set_clock, machine, right_us)

    def _set_clock(self, machine: Process | RedisNode, ahead_us: int) -> None:
        if not self.healed:
            machine.set_clock(ahead_us)

    def heal(self) -> None:
        """Everything that is down comes up; nothing fails from here on."""
        self.world.note("healed")
        self.healed = True
        self._join_network()
        self.world.disturb_at = -1
        self.world.latency_factor = 1.0
        self.keeper.come_back()
        for machine in (*self.processes, *self.nodes):
            machine.set_clock(self.world.rng.randint(-40_000, 40_000))
        for node in self.nodes:
            node.refuse_writes("")
        for journal in self.journals:
            journal.die_at_sync = ""
        for shard in self.shards:
            if not shard.primary.alive:
                shard.primary.start({})
            shard.primary.stalled_until_us = 0
            self.demote(shard.standby)
        for process in self.processes:
            if not process.alive:
                process.start()
        self.mover.tidy(lambda partition: self.placement.shard_of(partition), self._fail_over)

    # Rest ------------------------------------------------------------------------------------------------

    def restless(self) -> str:
        """Something that is still under way; empty when nothing is."""
        if not self.mover.at_rest:
            return f"moves of {self.mover.under_way()} are under way"
        for partition, keys in enumerate(self.auditor.keys):
            shard = next(s for s in self.shards if s.name == self.placement.shard_of(partition))
            store, state = shard.primary.store, self.auditor.state[partition]
            meta = store.get(keys.meta.encode(), {})
            if meta.get(b"state") != b"live":
                return f"partition {partition} is {meta.get(b'state')!r}"
            if int(meta[b"seq"]) != state.seq or meta[b"nonce"].decode() != state.nonce:
                return f"partition {partition} stands at {meta[b'seq']!r}, the journal at {state.seq}"
            left = [
                (seq, debit)
                for (p, seq, _), debit in self.auditor.debits.items()
                if p == partition and b"%d" % seq in store.get(keys.open.encode(), {})
            ]
            waiting = {seq for seq, debit in left if self._waits_for_room(partition, debit)}
            for seq, debit in left:
                if seq in waiting:
                    continue
                return f"entry {seq} of partition {partition} is open: {debit}"
        for partition, state in enumerate(self.auditor.state):
            for key, record in state.groups.items():
                return f"group {key} is under way in partition {partition}: {record}"
        for reference, debit in self.auditor.debits.items():
            if not debit.ended and not self._waits_for_room(reference[0], debit):
                return f"debit {reference} is open: {debit}"
        return self.auditor.holds.restless(self.world.now_ms)

    def _waits_for_room(self, partition: int, debit: Debit) -> bool:
        """Whether the receiver has refused the money, and the payer has too much to take it back."""
        if debit.ended or not debit.declined:
            return False
        has = self.auditor.state[partition].balance(debit.key[0], debit.currency)
        return has is not None and has + debit.amount > AMOUNT_MINOR_MAX

    def compare(self) -> None:
        """G6 for every partition, once nothing is under way."""
        for partition in range(self.profile.partitions):
            shard = next(s for s in self.shards if s.name == self.placement.shard_of(partition))
            self.auditor.compare(shard.primary, partition, "at the end")
