"""The engine with a span for each operation of a traced request. The span contains the script call and the
wait for the journal. Imported only when traces are sent."""

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.kinds import KINDS
from wallet_engine.domain.operation import Words
from wallet_engine.engine.batch import Batch, Pending
from wallet_engine.engine.engine import Engine
from wallet_engine.telemetry.spans import Step, current_place


class TracedEngine(Engine):
    """An operation that follows another one (a credit after its debit) is traced if that one is."""

    def submit(self, partition: int, operation: Words, item: Pending, issued_s: float) -> None:
        place = current_place()
        step = None if place is None else place.begin(KINDS[operation[0]].name, partition)
        if step is None:
            super().submit(partition, operation, item, issued_s)
            return
        try:
            super().submit(partition, operation, _TracedItem(self, item, step), issued_s)
        except Outage as outage:
            step.failed(outage.code)
            raise


class _TracedItem:
    """Stands in for the item that waits for one operation."""

    __slots__ = ("_engine", "_item", "_step")

    def __init__(self, engine: Engine, item: Pending, step: Step) -> None:
        self._engine = engine
        self._item = item
        self._step = step

    def committed(self, outcome: str, idx: int, batch: Batch) -> None:
        now_s = self._engine.now_s()
        sent_s_ago, answered_s_ago = now_s - batch.sent_s, now_s - batch.answered_s
        self._step.passed("script call", sent_s_ago, answered_s_ago)
        self._step.passed("journal wait", answered_s_ago, 0.0)
        self._step.decided(outcome, batch.entry)
        with self._step.place.entered():
            self._item.committed(outcome, idx, batch)

    def failed(self, outage: Outage) -> None:
        self._step.failed(outage.code)
        with self._step.place.entered():
            self._item.failed(outage)
