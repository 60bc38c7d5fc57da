"""Runs a few seeds of the simulator, which composes the engine's parts by hand. A changed constructor fails here first.

`tests/simulation` explains the simulator.
"""

from simulation.profile import Profile
from simulation.run import run_seed


def test_a_seed_with_one_journal_copy_and_one_with_several() -> None:
    assert run_seed(1).entries
    assert run_seed(2, Profile(journals=3, quorum=2, faults=2, payments_per_caller=2)).entries
