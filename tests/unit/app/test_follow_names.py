"""`follow` with sinks that the tree could not tell apart."""

import subprocess
import sys
from pathlib import Path

from wallet_engine.routing.directory import Directory
from wallet_engine.routing.file_tree import FileTree
from wallet_engine.routing.model import ClusterConfig, Shard, spread


def test_two_folders_of_one_name_are_refused(tmp_path: Path) -> None:
    """Both had the same claims and positions in the tree, so that segments which one still needs could go."""
    directory = Directory(FileTree(tmp_path / "map.json"))
    directory.initialise(ClusterConfig(4), [Shard("s", ("127.0.0.1:1",))], spread(4, ["s"]))
    directory.close()
    one, other = (f"parquet:{tmp_path / name / 'events'}" for name in ("a", "b"))
    flags = ["--map-file", str(tmp_path / "map.json"), "--to", one, "--to", other]
    done = subprocess.run(
        [sys.executable, "-m", "wallet_engine", "follow", *flags],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "are both the sink parquet-events" in done.stderr
    assert not (tmp_path / "a").exists()
