"""A shard that the map names and the tree does not describe: `doctor` finds it, and no verb ends in a traceback."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from unit.admin.made import MadeJournal, admin, make_map, refusal, register_journal

from wallet_engine.routing.directory import SHARDS


@pytest.fixture
def map_file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "map.json"
    MadeJournal(tmp_path / "journal").close()
    with closing(make_map(path, 2)) as directory:
        register_journal(directory, tmp_path / "journal")
        directory.tree.delete(f"{SHARDS}/s1")
        yield path


@pytest.mark.parametrize(
    "words",
    [
        ("account", "alice", "--entries", "0"),
        ("holds", "alice"),
        ("hold", "33333333-3333-4333-8333-333333333333", "--account", "alice"),
        ("rebuild", "1", "--yes"),
    ],
)
def test_it_is_said_in_one_line(map_file: Path, words: tuple[str, ...]) -> None:
    said = refusal(admin(*words, "--map-file", map_file))
    assert "see wallet-admin doctor" in said
