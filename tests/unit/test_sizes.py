"""Sizes and places: a product file has at most 450 lines, except two whose steps must be read in order.

A function fits on one screen. Every package has unit tests. A name says which class of `admin` is meant.
"""

import ast
from collections import Counter
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


def test_every_package_has_unit_tests_that_mirror_it() -> None:
    root, here = Path(wallet_engine.__file__).parent, Path(__file__).parent
    packages = {path.parent.name for path in root.glob("*/__init__.py")}
    assert packages - {path.parent.name for path in here.glob("*/test_*.py")} == set()


def test_no_two_classes_of_admin_have_one_name() -> None:
    names = Counter(
        node.name
        for path in (Path(wallet_engine.__file__).parent / "admin").rglob("*.py")
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_readme_is_for_a_newcomer() -> None:
    readme = Path(__file__).parents[2] / "README.md"
    assert len(readme.read_text("utf-8").splitlines()) <= 130
