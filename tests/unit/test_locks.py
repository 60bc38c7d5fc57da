"""The lock files name all installed packages, with hashes, and pyproject.toml allows these versions."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]


def wanted(*extras: str) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lists = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)]
    found = [Requirement(text) for texts in lists for text in texts]
    return [requirement for requirement in found if requirement.name != project["name"]]


def locked(file: str) -> dict[str, str]:
    """Name -> version of each package. Each must have a hash."""
    entries = re.split(r"\n(?=\S)", (ROOT / file).read_text("utf-8").strip())
    versions = {}
    for entry in entries:
        match = re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*])?==([^ ;\\]+)", entry)
        assert match, entry
        assert "--hash=sha256:" in entry, match[1]
        versions[canonicalize_name(match[1])] = match[2]
    return versions


@pytest.mark.parametrize(
    ("file", "extras"),
    [
        ("requirements.lock", ("build",)),
        ("requirements-dev.lock", ("build", "dev", "bench", "kafka", "otel", "parquet")),
        ("requirements-docs.lock", ("build", "docs")),
    ],
)
def test_a_lock_has_all_that_is_wanted_in_versions_that_are_allowed(
    file: str, extras: tuple[str, ...]
) -> None:
    versions = locked(file)
    for requirement in wanted(*extras):
        version = versions.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not in {file}: make lock"
        assert requirement.specifier.contains(version), f"{requirement} and {version} in {file}: make lock"


def test_both_locks_agree() -> None:
    run, dev = locked("requirements.lock"), locked("requirements-dev.lock")
    assert run.items() <= dev.items()
