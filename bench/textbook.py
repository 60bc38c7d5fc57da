"""The number of nodes for a throughput, from the speed of one node, as textbooks on system design compute it.

They count a transfer as two operations, one on each account. So 1,000,000 transfers per second need 2,000 nodes with
1,000 operations per second.
"""

import math
from typing import Final

TARGET_TRANSFERS_PER_S: Final = 1_000_000
OPERATIONS_PER_TRANSFER: Final = 2
TEXTBOOK_NODE_TPS: Final = (100, 1_000, 10_000)


def nodes_for(node_tps: float, transfers_per_s: int = TARGET_TRANSFERS_PER_S) -> int:
    """The number of nodes for `transfers_per_s`, when a node does `node_tps` operations per second.

    Raises `ValueError` unless `node_tps` is positive.
    """
    if node_tps <= 0:
        raise ValueError("a node that does nothing is no node")
    return math.ceil(round(transfers_per_s * OPERATIONS_PER_TRANSFER / node_tps, 6))


def textbook_rows(measured_transfers_per_s: float) -> list[list[str]]:
    """Rows `[what, operations/s per node, nodes]`. The last one is the measured node.

    `measured_transfers_per_s`: whole transfers per CPU-second of Redis; without any there is no such row.
    """
    rows = [["text-book", f"{tps:,}", f"{nodes_for(tps):,}"] for tps in TEXTBOOK_NODE_TPS]
    measured = measured_transfers_per_s * OPERATIONS_PER_TRANSFER
    if measured:
        rows.append(["measured", f"{measured:,.0f}", f"{nodes_for(measured):,}"])
    return rows


TEXTBOOK_HEADINGS: Final = ("node", "operations/s per node", "nodes for 1,000,000 transfers/s")
