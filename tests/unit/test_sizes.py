"""A file is read in one sitting: no product file has more than 450 lines, but two that are one argument in order."""

from pathlib import Path

import wallet_engine

LINES_MAX = 450
#: Long, and in the order of their argument.
LONG = {"recovery/recover.py", "admin/moving/driver.py"}


def test_no_file_is_too_long() -> None:
    root = Path(wallet_engine.__file__).parent
    lengths = {
        str(path.relative_to(root)): len(path.read_text("utf-8").splitlines()) for path in root.rglob("*.py")
    }
    assert {name for name, lines in lengths.items() if lines > LINES_MAX} == LONG


def test_readme_is_for_a_newcomer() -> None:
    readme = Path(__file__).parents[2] / "README.md"
    assert len(readme.read_text("utf-8").splitlines()) <= 130
