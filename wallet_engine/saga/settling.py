"""Settles entries whose money has arrived; no caller waits for that."""

from wallet_engine.engine.engine import Engine


def settle(engine: Engine, partition: int, seq: int) -> None:
    """Entry `seq` of `partition` has no outgoing money left. A settle that gets lost is found by the sweeper."""
    engine.riders.add(partition, ("s", str(seq), "-", "-", 0, "-", "", ""))
