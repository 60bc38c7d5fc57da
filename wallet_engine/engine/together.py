"""Submits many operations at the same time: queueing them by partition costs less than one by one."""

from collections.abc import Sequence

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.operation import Words
from wallet_engine.engine.batch import Pending
from wallet_engine.engine.engine import Engine


def submit_all(
    engine: Engine,
    partitions: Sequence[int],
    operations: Sequence[Words],
    items: Sequence[Pending],
    issued_s: float,
) -> None:
    """`Engine.submit` the first operation of each transfer; calls `failed` on items that were not taken."""
    by_partition: dict[int, tuple[list[Words], list[Pending]]] = {}
    for partition, operation, item in zip(partitions, operations, items, strict=True):
        queued = by_partition.get(partition)
        if queued is None:
            by_partition[partition] = [operation], [item]
        else:
            queued[0].append(operation)
            queued[1].append(item)
    for partition, queued in by_partition.items():
        accumulator = engine.cluster.accumulators[partition]
        try:
            if accumulator.add_all(*queued, issued_s):
                engine.wave.join(accumulator)
        except Outage as outage:
            for item in queued[1]:
                item.failed(outage)
