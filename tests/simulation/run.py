"""One seed from beginning to end. `python -m simulation.run SEED …` shows what happens in it."""

import gc
import hashlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from simulation.callers import Callers
from simulation.cluster import Cluster
from simulation.outages import Outage
from simulation.processes import SimCopy
from simulation.profile import Profile
from simulation.substitutes import surroundings
from simulation.world import Violation, World

#: A change to the cluster or to the engine's classes for the length of one run.
Plant = Callable[[Cluster], AbstractContextManager[object]]


@dataclass(frozen=True)
class Report:
    """The result of a seed. `digest` is equal for equal runs."""

    seed: int
    steps: int
    virtual_s: float
    scripts: int
    entries: int
    answers: int
    faults: int
    digest: str


def run_seed(
    seed: int, profile: Profile | None = None, plant: Plant | None = None, *, trace: bool = False
) -> Report:
    """Run one seed. Raises `Violation`, whose text begins with the seed; `trace` prints the events before it."""
    with stage(seed, profile or Profile.draw(seed), plant, trace=trace) as (cluster, callers):
        faults = run_through(cluster, callers)
    world = cluster.world
    auditor = cluster.auditor
    facts = (world.steps, world.now_us, auditor.scripts, [(s.seq, s.nonce) for s in auditor.state])
    digest = hashlib.sha256(repr((facts, sorted(auditor.given.items()))).encode()).hexdigest()[:16]
    return Report(
        seed,
        world.steps,
        world.elapsed_s,
        auditor.scripts,
        auditor.entries,
        auditor.checked_answers,
        faults,
        digest,
    )


@contextmanager
def stage(
    seed: int, profile: Profile, plant: Plant | None = None, *, trace: bool = False
) -> Iterator[tuple[Cluster, Callers]]:
    """A cluster that is not started yet and its callers, in a new world."""
    world = World(seed)
    if trace:
        world.trace = []
    with _no_collecting(), _directory() as directory:
        cluster = Cluster(world, profile, directory)
        with surroundings(
            world, cluster.find_primary, cluster.check_settings, SimCopy, cluster.clients.connect
        ):
            try:
                with plant(cluster) if plant else nullcontext():
                    yield cluster, Callers(cluster)
            finally:
                world.close()
                for run in cluster.mover.runs:
                    run.kill()
                for journal in cluster.journals:
                    if journal.writer is not None:
                        journal.writer.close()
                for at_ms, who, text in world.trace or ():
                    print(f"{at_ms:10.3f} {who:>10} {text}")


def run_through(cluster: Cluster, callers: Callers) -> int:
    """Run from the start to rest, with every check; returns how many faults struck. Raises `Violation`."""
    world, profile = cluster.world, cluster.profile
    cluster.start()
    world.run(callers.run(callers.open_and_fund()), 60, "setting up")
    struck = 0

    def disturb() -> None:
        nonlocal struck
        if struck < profile.faults:
            struck += 1
            cluster.strike(world.rng.choice(profile.kinds))
            world.disturb_at = world.steps + 1 + int(world.rng.expovariate(1 / profile.fault_gap_steps))

    world.disturb = disturb
    world.disturb_at = world.steps + 1 + int(world.rng.expovariate(1 / profile.fault_gap_steps))
    world.run(callers.run(callers.traffic()), 120, "traffic")
    for rest_s in profile.rests_s:
        world.run(_waited(world, rest_s), 120, "rest")
        world.run(callers.run(callers.traffic()), 120, "traffic")
    if profile.outage:
        world.run(callers.run(Outage(cluster, callers).happen()), 120, "the outage")
    cluster.heal()
    world.run(callers.run(callers.finish()), 60, "an answer to every payment")
    _wait_for_rest(cluster)
    cluster.compare()
    callers.check_balances()
    if world.violation is not None:
        raise world.violation
    return struck


def _waited(world: World, duration_s: float) -> Callable[[], bool]:
    end_us = world.now_us + int(duration_s * 1e6)
    return lambda: world.now_us >= end_us


def _wait_for_rest(cluster: Cluster) -> None:
    """G9: once nothing fails any more, everything open ends by itself."""
    world = cluster.world
    next_look_us = 0

    def at_rest() -> bool:
        nonlocal next_look_us
        if world.now_us < next_look_us:
            return False
        next_look_us = world.now_us + 20_000
        return not cluster.restless()

    try:
        world.run(at_rest, 40, "G9: rest")
    except Violation as violation:
        raise Violation(f"{violation} ({cluster.restless()})") from None


@contextmanager
def _no_collecting() -> Iterator[None]:
    """Garbage collection ends coroutines, at moments that depend on everything this process has done before."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def _directory() -> Iterator[Path]:
    """A directory in memory, where the machine has one: a simulated disk need not survive the machine."""
    memory = Path("/dev/shm")
    base = memory if memory.is_dir() else None
    path = Path(tempfile.mkdtemp(prefix="wallet-simulation-", dir=base))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def run_many(
    seeds: Iterable[int],
    plant: Plant | None = None,
    profile: Callable[[int], Profile] = Profile.draw,
) -> Iterator[Report | Violation]:
    """Many seeds; garbage is collected after every fourth."""
    with _no_collecting():
        gc.collect()
        gc.freeze()
        try:
            for number, seed in enumerate(seeds, 1):
                try:
                    yield run_seed(seed, profile(seed), plant)
                except Violation as violation:
                    yield violation.with_traceback(None)
                if number % 4 == 0:
                    gc.collect()
        finally:
            gc.unfreeze()


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(run_seed(int(argument), trace=True))
