"""The engine under faults in virtual time: G1-G9 on many seeds, and the same seed twice is the same run.

`SIM_SEED=n` runs one seed and prints what happened in it; `SIM_SECONDS=n` sets the length of the soak, or
`SIM_SEEDS=n` how many seeds it has, and `SIM_PROFILE` says how both draw their profiles: `draw`, `draw_all`,
`draw_limits`, `draw_copies`, `draw_late`, `draw_overtaken`, `draw_moves`, `draw_together`,
`draw_changed_copies` or `draw_outage`.
"""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from simulation.auditor import Auditor
from simulation.profile import FAULTS, LOST, OUTAGES, Profile
from simulation.run import Report, run_many, run_seed
from simulation.substitutes import HORIZONS, PERIODS, RETENTION_MS
from simulation.world import Violation, World

TESTS = Path(__file__).parent.parent


def _profile() -> Callable[[int], Profile]:
    draw: Callable[[int], Profile] = getattr(Profile, os.environ.get("SIM_PROFILE", "draw"))
    return draw


@pytest.mark.skipif("SIM_SEED" not in os.environ, reason="runs the seed that SIM_SEED names")
def test_one_seed() -> None:
    seed = int(os.environ["SIM_SEED"])
    print(run_seed(seed, _profile()(seed), trace=True))


#: On a machine that does other work too, some of these take minutes.
_OF_THE_SOAK = (pytest.mark.soak, pytest.mark.timeout(1200))


def the_first(few: int, more: int) -> Any:
    """Seeds from 1 on: so many in the suite, and the seeds after them in the soak."""
    return pytest.mark.parametrize(
        "seeds",
        [range(1, few + 1), pytest.param(range(few + 1, more + 1), marks=_OF_THE_SOAK)],
        ids=["few", "more"],
    )


def keep_every_guarantee(seeds: range, profile: Callable[[int], Profile] = Profile.draw) -> None:
    failed = [str(result) for result in run_many(seeds, profile=profile) if isinstance(result, Violation)]
    assert not failed, f"{len(failed)} seeds failed; SIM_SEED=<n> shows one\n" + "\n".join(failed)


@the_first(16, 48)
def test_seeds_keep_every_guarantee(seeds: range) -> None:
    """G1, G2, G3, G4, G5, G6, G7, G8 and G9 on the first seeds."""
    keep_every_guarantee(seeds)


@the_first(8, 16)
def test_seeds_with_several_journal_copies(seeds: range) -> None:
    """G1 to G9 with two or three copies, one or two of which must receipt."""
    keep_every_guarantee(seeds, Profile.draw_copies)


@the_first(4, 40)
def test_seeds_with_overtaken_recoveries(seeds: range) -> None:
    """G1 to G9 while journal processes are stopped in a recovery, lose its lock, and go on when others have done it."""
    keep_every_guarantee(seeds, Profile.draw_overtaken)


@the_first(6, 12)
def test_seeds_with_holds_groups_and_refunds(seeds: range) -> None:
    """G1 to G9 where every history has holds, groups and refunds."""
    keep_every_guarantee(seeds, Profile.draw_all)


@the_first(4, 40)
def test_seeds_with_limits(seeds: range) -> None:
    """G1 to G9 where accounts also have maximum balances, and their limits change."""
    keep_every_guarantee(seeds, Profile.draw_limits)


@the_first(2, 40)
def test_seeds_with_groups_that_are_repeated_late(seeds: range) -> None:
    """G1 to G9 while some partitions have forgotten a group, and others have not."""
    keep_every_guarantee(seeds, Profile.draw_late)


@the_first(4, 16)
def test_seeds_with_moves(seeds: range) -> None:
    """G1 to G9 and G11 while partitions move and come back, and primaries fail over."""
    keep_every_guarantee(seeds, Profile.draw_moves)


@the_first(2, 40)
def test_seeds_with_everything_together(seeds: range) -> None:
    """G1 to G9 and G11 while partitions move, primaries fail over, copies recover, and ids are forgotten."""
    keep_every_guarantee(seeds, Profile.draw_together)


@the_first(3, 60)
def test_seeds_with_copies_that_change(seeds: range) -> None:
    """G1 to G9 while journal copies are lost with their disks and replaced, or added."""
    keep_every_guarantee(seeds, Profile.draw_changed_copies)


@the_first(2, 6)
@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault_alone(kind: str, seeds: range) -> None:
    for seed in seeds:
        run_seed(seed, Profile(kinds=(kind,), faults=3, fault_gap_steps=150, payments_per_caller=2))


@the_first(1, 8)
@pytest.mark.parametrize("outage", [*OUTAGES, LOST])
def test_long_outages(outage: str, seeds: range) -> None:
    """G1 to G10 and G14 while one part is out, streams are small and payments come in crowds."""
    keep_every_guarantee(seeds, lambda seed: Profile.draw_outage(seed, outage))


def test_a_seed_is_one_run() -> None:
    """A seed gives the same run whatever ran before in the process, and whatever the process's hash seed is.

    These moves used to differ, because fields were copied in the order of a set.
    """
    plain, moving = (2, 3), (5, 17)
    here = [run_seed(seed).digest for seed in plain]
    here += [run_seed(seed, Profile.draw_moves(seed)).digest for seed in moving]
    program = f"""from simulation.run import Profile, run_seed
for seed in {plain}: print(run_seed(seed).digest)
for seed in {moving}: print(run_seed(seed, Profile.draw_moves(seed)).digest)"""
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": f"{TESTS.parent}:{TESTS}"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == here


def test_periods_keep_their_order() -> None:
    """The shortened periods must keep these relations of the real ones."""
    issued_age_ms = HORIZONS.issued_age_ms_max
    assert issued_age_ms < RETENTION_MS / 2
    assert PERIODS["saga.sweeper"]["OPEN_AGE_MS_MIN"] < RETENTION_MS / 2
    assert PERIODS["saga.sweeper"]["DRIVE_TIMEOUT_S"] * 1000 < issued_age_ms
    assert PERIODS["engine.engine"]["HOLD_MS_MAX"] < PERIODS["service.transfers"]["ANSWER_TIMEOUT_S"] * 1000
    assert PERIODS["service.transfers"]["ANSWER_TIMEOUT_S"] < PERIODS["engine.engine"]["RECEIPT_TIMEOUT_S"]


def test_a_violation_names_its_seed() -> None:
    world = World(7)
    Auditor(world, 4, 1, RETENTION_MS)
    world.after(0, world.violate, "something")
    with pytest.raises(Violation, match=r"^seed 7, .*something"):
        world.run(lambda: False, 1, "nothing")


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_soak() -> None:
    """New seeds each time, from a printed beginning (SIM_FIRST), for SIM_SECONDS or as many as SIM_SEEDS says."""
    first = int(os.environ.get("SIM_FIRST", random.SystemRandom().randrange(1_000, 10**9)))
    count = int(os.environ.get("SIM_SEEDS", 10**9))
    seconds = float(os.environ.get("SIM_SECONDS", "300" if count == 10**9 else "7000"))
    print(f"\nseeds from {first}")
    started_s = time.monotonic()
    reports: list[Report] = []
    failed: list[str] = []
    for result in run_many(iter(range(first, first + count)), profile=_profile()):
        if isinstance(result, Violation):
            failed.append(str(result))
            print(result)
        else:
            reports.append(result)
        if time.monotonic() - started_s > seconds:
            break
    minutes = (time.monotonic() - started_s) / 60
    seeds = len(reports) + len(failed)
    print(
        f"{seeds} seeds, {seeds / minutes:.0f} a minute; {sum(r.faults for r in reports)} faults, "
        f"{sum(r.entries for r in reports)} entries, {sum(r.answers for r in reports)} answers checked, "
        f"{sum(r.virtual_s for r in reports) / 3600:.1f} virtual hours"
    )
    assert not failed, "\n".join(failed)
