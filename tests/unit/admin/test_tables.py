"""Tables on a narrow terminal: columns are left out or text is folded, but no text is cut off."""

import io

import pytest
from rich.console import Console

from wallet_engine.admin.session import plain_console, plain_table, show_table
from wallet_engine.admin.verbs.history import _show_status

ADDRESS = "redis-1.wallet.example:6379"


def shown(width: int, *spare: str) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    table = plain_table("shard", "node", "memory", "limit", right=["memory"])
    table.add_row("s1", ADDRESS, "12.5 MiB", "100.0 MiB")
    show_table(console, table, *spare)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width
    return text.splitlines()


@pytest.mark.parametrize(
    ("width", "left_out"),
    [
        (80, []),
        (60, ["left out, for want of width: limit"]),
        (49, ["left out, for want of width: limit, memory"]),
    ],
)
def test_columns_go_where_an_address_would_be_folded(width: int, left_out: list[str]) -> None:
    lines = shown(width, "limit", "memory")
    assert any(ADDRESS in line for line in lines)
    assert [line for line in lines if line.startswith("left out")] == left_out
    assert any("100.0 MiB" in line for line in lines) == (not left_out)


def test_what_must_stay_is_folded() -> None:
    lines = shown(24)
    assert "…" not in "".join(lines)
    pieces = [line.split("│")[2].strip() for line in lines if line.startswith("│")]
    assert "".join(pieces) == ADDRESS


@pytest.mark.parametrize("width", [24, 40, 200])
def test_the_state_of_the_history_is_told_in_full(width: int) -> None:
    """Times were cut off at 40 columns."""
    at = "2026-11-29T23:50:26.612Z"
    document = {
        "version": 5,
        "followers": ["follower-1"],
        "troubles": ["t" * 100],
        "partitions": [{"partition": 3, "seq": 1_207_000, "at": at}],
        "unfollowed": [*range(40)],
    }
    console = Console(file=io.StringIO(), width=width)
    _show_status(console, document)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    assert "t" * 100 in text
    assert "38, 39" in text
    assert "…" not in text


def test_a_pipe_folds_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Output for `grep` was folded at 160 columns."""
    monkeypatch.delenv("COLUMNS", raising=False)
    path = "/mnt/" + "d" * 300
    table = plain_table("journal", "where", "memory")
    table.add_row("j1", path, "12.5 MiB")
    show_table(plain_console(), table, "memory")
    plain_console().print(f"it is in {path}")
    said = capsys.readouterr().out
    assert said.count(path) == 2
    assert "12.5 MiB" in said
