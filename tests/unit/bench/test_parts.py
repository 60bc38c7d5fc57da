"""The parts that an interrupted report keeps, and which results may be added to a report."""

from pathlib import Path
from typing import Any

import pytest

from bench.machine import commit, machine
from bench.matrix import Extent, check_many_accounts
from bench.parts import Parts

SAME = {"commit": "abc1234", "extent": {"memory_accounts": (1, 2)}}


def never() -> Any:
    raise AssertionError("measured again")


def test_what_was_finished_is_not_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "out" / "partial.json"
    first = Parts(path, SAME, resume=False)
    assert first.get("main", lambda: {"rows": [1]}) == {"rows": [1]}
    assert first.get("main", never) == {"rows": [1]}

    second = Parts(path, SAME, resume=True)
    assert second.resumed == 1
    assert second.get("main", never) == {"rows": [1]}
    assert second.get("peers", lambda: [2]) == [2]
    assert second.spent_s > 0
    second.done()
    assert not path.exists()


def test_parts_of_something_else_are_not_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "partial.json"
    with pytest.raises(ValueError, match="nothing was interrupted"):
        Parts(path, SAME, resume=True)
    Parts(path, SAME, resume=False).put("main", 1)
    with pytest.raises(ValueError, match="measured with another commit"):
        Parts(path, {**SAME, "commit": "def5678"}, resume=True)
    assert "main" not in Parts(path, SAME, resume=False)


def test_a_run_of_its_own_stands_in_the_row_of_many_accounts_when_it_is_one() -> None:
    document = {
        "door": "http",
        "workload": "across",
        "batch": 1000,
        "callers": 8,
        "shards": 3,
        "partitions": 64,
    }
    document |= {"apis": 1, "loop": "closed", "commit": commit(), "machine": machine(), "accounts": 10**7}
    assert check_many_accounts(document, 10**5) is document
    for wrong in ({"workload": "uniform"}, {"commit": "abc"}, {"accounts": 10**5}):
        with pytest.raises(ValueError, match=r"takes a run with|not more than"):
            check_many_accounts({**document, **wrong}, 10**5)
    with pytest.raises(ValueError, match="of one `bench run`"):
        check_many_accounts([document], 10**5)


def test_the_estimate_grows_with_what_is_to_be_done() -> None:
    full, quick = Extent(), Extent().quick()
    for name in ("main_s", "memory_s", "peers_s", "scale_s"):
        assert getattr(full, name) > getattr(quick, name) > 0
