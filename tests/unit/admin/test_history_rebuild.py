"""G14: `history rebuild` says why nothing is written; with --wait it waited without a word."""

from collections.abc import Collection
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from unit.admin.made import admin, make_map

from wallet_engine.admin.verbs import history
from wallet_engine.admin.verbs.history import _Hindrance, _Warner
from wallet_engine.history.sink import SINK
from wallet_engine.routing.directory import open_directory
from wallet_engine.routing.following import FollowerInfo
from wallet_engine.routing.model import Trouble


def test_what_a_follower_notes_while_rows_are_deleted_does_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal could have pruned what is to be written anew."""
    path = tmp_path / "map.json"
    with closing(make_map(path, 4)) as directory:
        directory.followers.note(SINK, {0: 7, 1: 7})

        async def clear(_url: str, partitions: Collection[int], _warn: object) -> dict[int, int]:
            assert directory.followers.seqs()[SINK] == {0: 0, 1: 7}
            directory.followers.note(SINK, {0: 8})
            return dict.fromkeys(partitions, 7)

        monkeypatch.setattr(history, "_clear", clear)
        words = (
            "history",
            "rebuild",
            "0",
            "--map-file",
            str(path),
            "--database",
            "postgresql://db/x",
            "--yes",
        )
        assert admin(*words).exit_code == 0
        assert directory.followers.seqs()[SINK] == {0: 0, 1: 7}


def test_who_keeps_it_from_being_written_is_told_whenever_that_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(open_directory(None, tmp_path / "map.json")) as directory:
        hindrance = _Hindrance(directory, _Warner())

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
