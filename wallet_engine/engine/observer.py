"""The metrics of the engine, for `/metrics`."""

from wallet_engine.telemetry.metrics import PARTITION_STATES, Metrics


class Observer:
    """Counts for one engine."""

    def __init__(self, metrics: Metrics) -> None:
        self._script_seconds = metrics.script_seconds
        self._script_operations = metrics.script_operations.labels()
        self._receipt_wait_seconds = metrics.receipt_wait_seconds.labels()
        self._partition_state = metrics.partition_state

    def applied(self, shard: str, operations: int, seconds: float) -> None:
        """A script call has decided this many operations."""
        self._script_seconds.labels(shard).observe(seconds)
        self._script_operations.observe(operations)

    def durable(self, seconds: float) -> None:
        """An entry has its receipts, this many seconds after the reply of Redis."""
        self._receipt_wait_seconds.observe(seconds)

    def partition(self, partition: int, state: str) -> None:
        """How the engine sees a partition now: a state, or a condition that stops it."""
        shown = PARTITION_STATES.get(state, PARTITION_STATES["unavailable"])
        self._partition_state.labels(str(partition)).set(shown)
