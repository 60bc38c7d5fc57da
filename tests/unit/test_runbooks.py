"""Every command of a runbook is run by a test: a page with more commands fails here; a test with fewer fails itself."""

import ast
import re
from pathlib import Path

import pytest
from support.runbooks import (
    DEPLOY,
    DEPLOYED_BY,
    RUNBOOKS,
    SOAKS,
    WALKED_BY,
    due,
    missed,
    note,
    noted,
    sections,
    text_of,
)

from wallet_engine.admin.diagnosis.findings import CHECKS

TESTS = Path(__file__).parents[1]
NAMED = {*DEPLOYED_BY.values(), *(test for walk in WALKED_BY.values() for test in walk.values())}


def test_every_command_of_every_runbook_has_the_test_that_runs_it() -> None:
    told = {title: {text_of(line) for line in lines} or {""} for title, lines in sections().items()}
    assert told == {title: set(walk) for title, walk in WALKED_BY.items()}


def test_every_part_of_the_page_on_deployment_has_its_test() -> None:
    assert set(sections(DEPLOY)) == DEPLOYED_BY.keys()


def test_what_doctor_says_of_a_healthy_cluster_is_what_stands_there() -> None:
    (page,) = re.findall(
        r"^## What doctor says of a healthy.*?^## ", RUNBOOKS.read_text("utf-8"), re.M | re.S
    )
    said = re.findall(r"^    (?:ok|note) +([a-z ]+): (.*)$", page, re.M)
    assert [name for name, _ in said] == list(CHECKS)
    assert all(CHECKS[name].__doc__ == text for name, text in said if name != "memory")


@pytest.mark.parametrize("test", sorted(NAMED))
def test_the_test_is_there_and_in_the_suite(test: str) -> None:
    file, _, name = test.partition("::")
    module = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    (function,) = (node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == name)
    marks = [
        node for node in module.body if isinstance(node, ast.Assign) and "pytestmark" in ast.unparse(node)
    ]
    is_soak = any("mark.soak" in ast.unparse(mark) for mark in (*function.decorator_list, *marks))
    assert is_soak == (test in SOAKS)


def test_what_a_test_leaves_out_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("support.runbooks.ran", [])
    test = "integration/test_admin_switchover.py::test_there_and_back_under_traffic"
    assert due(f"{test}[twice]") == {"wallet-admin switchover", "wallet-admin switchover --to"}
    with noted():
        note(["/bin/wallet-admin", "--zookeeper", "zk:1", "--json", "switchover", "s1", "--yes"])
    assert missed(test) == ["wallet-admin switchover --to"]
    note(["bash", "-c", "cd /tmp && exec wallet-admin switchover s1 --to=h:1  # back"])
    assert missed(test) == []
