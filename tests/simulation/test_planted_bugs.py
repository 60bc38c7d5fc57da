"""Each planted protocol bug is found within a bounded number of seeds, and the guarantee it breaks is named."""

import pytest
from simulation import planted, planted_lies, planted_moves, planted_outages
from simulation.planted import SCRIPT_CHANGES, Bug, changed_places, seeds_needed

from wallet_engine.redis_store.scripts import load_script

BUGS = (*planted.BUGS, *planted_outages.BUGS, *planted_moves.BUGS, *planted_lies.BUGS)


@pytest.mark.parametrize("bug", [bug for bug in BUGS if not bug.rare], ids=lambda bug: bug.name)
def test_planted_bug_is_found(bug: Bug) -> None:
    look_for(bug)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("bug", [bug for bug in BUGS if bug.rare], ids=lambda bug: bug.name)
def test_planted_bug_that_is_rare_is_found(bug: Bug) -> None:
    look_for(bug)


def look_for(bug: Bug) -> None:
    seeds, violation = seeds_needed(bug)
    print(f"\n{bug.name}: {seeds} seeds: {violation[:200]}")
    assert seeds, f"{bug.name!r} was not found in {bug.seeds_max} seeds"


@pytest.mark.parametrize("name", SCRIPT_CHANGES)
def test_planted_text_is_in_the_script(name: str) -> None:
    """A plant whose text is no longer in the script would change nothing."""
    for old, new in SCRIPT_CHANGES[name]:
        assert changed_places(old, load_script("apply", extended=True).text) >= 1
        assert old != new


@pytest.mark.parametrize(("name", "old"), [(name, old) for name, old, _ in planted_outages.SCRIPT_CHANGES])
def test_planted_text_of_outages_is_in_its_script(name: str, old: str) -> None:
    assert changed_places(old, load_script(name, extended=True).text) == 1


@pytest.mark.parametrize(("name", "old"), [(name, old) for name, old, _ in planted.OVERTAKEN])
def test_planted_text_of_recoveries_is_in_its_script(name: str, old: str) -> None:
    assert changed_places(old, load_script(name, replay=True).text) == 1


@pytest.mark.parametrize("old", [old for old, _ in planted_lies.SCRIPT_CHANGES])
def test_planted_text_of_lies_is_in_the_script(old: str) -> None:
    assert changed_places(old, load_script("apply", replay=True).text) == 1
