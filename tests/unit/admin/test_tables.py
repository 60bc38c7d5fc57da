"""Tables on a narrow terminal: columns go, or text is folded, and nothing is cut."""

import io

import pytest
from rich.console import Console

from wallet_engine.admin.session import plain_table, show_table

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
