"""The documentation builds, and its examples of the client are true."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_example_of_a_unit_test_runs() -> None:
    (block,) = (b for b in BLOCK.findall((ROOT / "docs/python.md").read_text()) if "FakeWallet" in b)
    names: dict[str, object] = {}
    exec(block, names)
    test = names["test_an_order_is_paid"]
    assert callable(test)
    test()


def test_every_example_is_python() -> None:
    for page in ("README.md", "docs/python.md"):
        for block in BLOCK.findall((ROOT / page).read_text()):
            compile(block, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_make_docs() -> None:
    subprocess.run(["make", "docs"], cwd=ROOT, check=True)
    assert "<h2" in (ROOT / "site/reference.html").read_text()
