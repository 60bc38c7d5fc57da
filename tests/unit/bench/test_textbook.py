"""The textbook table, and medians of several runs."""

import pytest

from bench.runs import summarise
from bench.text import markdown, table
from bench.textbook import nodes_for, textbook_rows


@pytest.mark.parametrize(("tps", "nodes"), [(100, 20_000), (1_000, 2_000), (10_000, 200), (200_000, 10)])
def test_the_text_book_counts_two_operations_per_transfer(tps: int, nodes: int) -> None:
    assert nodes_for(tps) == nodes


def test_a_part_of_a_node_is_a_node() -> None:
    assert nodes_for(2_000_001) == 1
    assert nodes_for(1_999_999) == 2
    with pytest.raises(ValueError, match="no node"):
        nodes_for(0)


def test_the_measured_node_does_whole_transfers() -> None:
    assert textbook_rows(110_000.0)[-1] == ["measured", "220,000", "10"]
    assert [row[2] for row in textbook_rows(1.0)[:3]] == ["20,000", "2,000", "200"]
    assert len(textbook_rows(0.0)) == 3  # less than a tick of CPU gives no row


def document(tps: float, redis: float, p99: float) -> dict[str, object]:
    return {
        "name": "a row",
        "transfers_per_s": tps,
        "per_node_tps": 10,
        "cpu_us_per_transfer": {"redis": redis},
        "latency_ms": {"p99": p99},
        "steal": 0.5,
        "conserved": True,
        "arrivals_per_s": None,
    }


def test_medians_and_spread_of_runs() -> None:
    summary = summarise([document(3.0, 9.0, 1.0), document(1.0, 7.0, 50.0), document(2.0, 8.0, 2.0)])
    assert summary["transfers_per_s"] == 2
    assert summary["cpu_us_per_transfer"] == {"redis": 8}
    assert summary["latency_ms"] == {"p99": 2}
    assert summary["spread"]["latency_ms"] == {"p99": [1, 50]}
    assert summary["spread"]["transfers_per_s"] == [1, 3]
    assert (summary["runs"], summary["name"], summary["conserved"]) == (3, "a row", True)
    assert [run["transfers_per_s"] for run in summary["each_run"]] == [3, 1, 2]


def test_one_run_is_its_own_median() -> None:
    assert summarise([document(3.0, 9.0, 1.0)]) == {**document(3.0, 9.0, 1.0), "runs": 1}


def test_numbers_stand_right_and_words_left() -> None:
    headings, rows = ["name", "count"], [["a", "1"], ["long name", "1,000"]]
    assert table(headings, rows).splitlines() == [
        "name       count",
        "---------  -----",
        "a              1",
        "long name  1,000",
    ]
    assert markdown(headings, rows).splitlines()[1:3] == ["| --- | ---: |", "| a | 1 |"]
