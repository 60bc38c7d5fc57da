"""`tests/WOUNDS.md` names existing tests, and in each line at least one that `make test` runs."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = (TESTS / "WOUNDS.md").read_text("utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and "`" in line]
LINES_MIN = 50


def runs(test: str) -> bool:
    """Whether `make test` runs this test. Raises when there is no test of this name."""
    file, *classes, name = test.split("::")
    module = ast.parse((TESTS / file).read_text("utf-8"))
    body = module.body
    for each in classes:
        (found,) = (node for node in body if isinstance(node, ast.ClassDef) and node.name == each)
        body = found.body
    functions = (node for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    (function,) = (node for node in functions if node.name == name)
    assigned = [node for node in module.body if isinstance(node, ast.Assign)]
    marks = [*function.decorator_list, *(node for node in assigned if "pytestmark" in ast.unparse(node))]
    return not any("mark.soak" in ast.unparse(mark) for mark in marks)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:40])
def test_each_line_has_tests_that_are_there(row: str) -> None:
    tests = re.findall(r"`(\S+\.py::\S+)`", row.rpartition(" | ")[2])
    assert [test for test in tests if runs(test)]


def test_no_line_is_without() -> None:
    lines = [line for line in PAGE.splitlines() if line.startswith("| ") and " | " in line]
    heads = [line for line in lines if line.endswith(" | tests |")]
    assert len(ROWS) == len(lines) - len(heads) >= LINES_MIN
