"""G14: `history rebuild` says why nothing is written; with --wait it waited without a word."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from wallet_engine.admin.verbs.history import _Hindrance
from wallet_engine.history.sink import SINK
from wallet_engine.routing.directory import open_directory
from wallet_engine.routing.following import FollowerInfo
from wallet_engine.routing.model import Trouble


def test_who_keeps_it_from_being_written_is_told_whenever_that_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(open_directory(None, tmp_path / "map.json")) as directory:
        hindrance = _Hindrance(directory)

        def told() -> str:
            hindrance.tell()
            return capsys.readouterr().err

        assert "nobody follows for the history" in told()
        assert told() == ""
        follower = FollowerInfo("f1", SINK, "", 1, "host")
        directory.following.register(replace(follower, troubles=(Trouble("the database refuses us", 1),)))
        assert "the database refuses us" in told()
        directory.following.register(follower)
        assert "written again" in told()
        assert told() == ""
