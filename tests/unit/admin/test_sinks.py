"""The followers and their sinks, as `status` and `doctor` read them from the tree."""

from contextlib import closing
from pathlib import Path

from unit.admin.made import make_map

from wallet_engine.admin.sinks import sinks_of
from wallet_engine.routing.following import FollowerInfo


def test_partitions_are_those_of_whoever_has_claimed_them(tmp_path: Path) -> None:
    with closing(make_map(tmp_path / "map.json", 4)) as directory:
        assert sinks_of(directory, {0: 5, 1: 5, 2: 5, 3: None}) == ()
        directory.followers.note("history", {0: 2, 1: 3}, {0: 5, 1: 3})
        (idle,) = sinks_of(directory, {0: 5, 1: 5, 2: 4, 3: 0})
        assert (idle.sink, idle.members, idle.unclaimed, idle.lag_entries) == ("history", (), (0, 1, 2, 3), 6)
        for name in ("f1", "f2"):
            directory.following.register(FollowerInfo(name, "history", "", 1, "h"))
        directory.following.register(FollowerInfo("o", "oracle", "", 1, "h"))
        directory.following.claim("oracle", 0, "o")
        for group in (0, 2, 3):
            directory.following.claim("history", group, "f2" if group else "f1")
        history, oracle = sinks_of(directory, {0: 9, 1: None, 2: 0, 3: 0})
        assert history.claimed == {"f1": (0,), "f2": (2, 3)}
        assert (history.unclaimed, history.lag_entries) == ((1,), None)
        assert (oracle.claimed, oracle.unclaimed) == ({"o": (0, 1, 2, 3)}, ())
