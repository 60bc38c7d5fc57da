"""The top level of the repository: what a newcomer sees first. A file that a trial left there was committed once."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOP = """
pyproject.toml README.md lua wallet_engine cluster_config tests bench docker-compose.yml
Makefile ARCHITECTURE.md CHANGELOG.md .ci docs mkdocs.yml .gitignore
requirements.lock requirements-dev.lock requirements-docs.lock
"""


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a copy of the files without git tracks nothing")
def test_nothing_else_is_tracked_at_the_top_level() -> None:
    # The files may belong to another user than the one who runs the tests.
    git = ("git", "-c", f"safe.directory={ROOT}", "ls-files")
    tracked = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {name.partition("/")[0] for name in tracked.splitlines()} == set(TOP.split())
