"""Nodes of the directory that nobody can read: `status` and `doctor` name each, and tell of all others."""

from contextlib import closing
from pathlib import Path

import pytest

from wallet_engine.admin.diagnosis import probing
from wallet_engine.admin.diagnosis.examination import examine
from wallet_engine.admin.diagnosis.findings import find
from wallet_engine.admin.survey import survey
from wallet_engine.admin.verbs.status import warnings_of
from wallet_engine.routing.directory import open_directory
from wallet_engine.routing.model import ClusterConfig, Shard, spread

PATHS = (
    "/wallet/shards/s2",
    "/wallet/journals/j1",
    "/wallet/services/api",
    "/wallet/pause",
    "/wallet/followers/history/0",
    "/wallet/following/history/members/f1",
    "/wallet/following/history/claims/one",
)


def test_g14_what_cannot_be_read_is_named_and_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One such node failed both verbs, whatever else was wrong."""
    monkeypatch.setattr(probing, "REFUSED_S_MAX", 0.1)
    monkeypatch.setattr(probing, "RECEIPT_S_MAX", 0.1)
    with closing(open_directory(None, tmp_path / "map.json")) as directory:
        directory.initialise(ClusterConfig(partitions=1), [Shard("s1", ("127.0.0.1:1",))], spread(1, ["s1"]))
        for path in PATHS:
            directory.tree.create(path, b"{")
        said = warnings_of(survey(directory))
        assert "shard s1 has no primary that answers" in said
        for path in PATHS:
            assert any(line.startswith(f"{path} ") for line in said), path
        directory.tree.create("/wallet/accepted/0", b"{")
        directory.tree.create("/wallet/copies/members", b"{")
        found = find(examine(directory, None))
        assert "nodes" in {finding.check for finding in found}
        for path in (*PATHS, "/wallet/accepted/0", "/wallet/copies/members"):
            named = [f.severity for f in found if f.check == "directory" and f.what.startswith(f"{path} ")]
            assert named == ["error"], path
