"""Sizes: a product file has at most 450 lines, except two whose steps must be read in order.

A function fits on one screen.
"""

import ast
from pathlib import Path

import wallet_engine

LINES_MAX = 450
#: Longer files, whose steps must be read in order.
LONG = {"recovery/recover.py", "admin/moving/driver.py"}


def test_no_file_is_too_long() -> None:
    root = Path(wallet_engine.__file__).parent
    lengths = {
        str(path.relative_to(root)): len(path.read_text("utf-8").splitlines()) for path in root.rglob("*.py")
    }
    assert {name for name, lines in lengths.items() if lines > LINES_MAX} == LONG


#: Without decorators. The functions in `OF_FLAGS` are long because of their many flags.
FUNCTION_LINES_MAX = 60
OF_FLAGS = {"app/follow.py follow", "app/journal.py journal", "app/serve.py serve"}


def test_no_function_is_too_long() -> None:
    root = Path(wallet_engine.__file__).parent
    long = {
        f"{path.relative_to(root)} {node.name}"
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES_MAX
    }
    assert long == OF_FLAGS


def test_readme_is_for_a_newcomer() -> None:
    readme = Path(__file__).parents[2] / "README.md"
    assert len(readme.read_text("utf-8").splitlines()) <= 130
