"""The oracle: an independent fold of journal entries over a partition's state, the specification in code.

It decides every operation of an entry again (`oracle_rules`) and refuses an entry whose recorded outcomes
differ, or that does not continue the partition's chain. Replay, `verify`, the audit commands and the tests of
the Lua scripts all compare their results with it.
"""

from collections.abc import Sequence

from wallet_engine.domain.entry import Entry, EntryHeader, check_rules, parse_entry
from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.operation import Operation
from wallet_engine.domain.oracle_rules import decide_operations
from wallet_engine.domain.oracle_state import PartitionState


def apply_payload(state: PartitionState, payload: bytes) -> EntryHeader:
    """Fold one entry, as text, into the state. Returns its header.

    Raises `Corruption` when the entry is malformed, breaks the chain, or does not come out as recorded; the
    state must then not be used any more.
    """
    entry = parse_entry(payload)
    apply_entry(state, entry)
    return entry.header


def apply_entry(state: PartitionState, entry: Entry) -> None:
    """As `apply_payload`, for an entry already parsed."""
    header, operations = entry
    if len(operations) != len(header.outcomes):
        raise Corruption(f"entry {header.seq}: {len(operations)} operations, {len(header.outcomes)} outcomes")
    check_chain(state, header)
    check_rules(header)
    outcomes = decide_operations(
        state, operations, header.time_ms, header.window, header.rules, header.outcomes
    )
    if outcomes != header.outcomes:
        raise Corruption(_difference(header, outcomes, operations))
    if state.seq != header.seq:
        raise Corruption(f"entry {header.seq}: no operation has an effect, outcomes {outcomes!r}")
    state.nonce = header.nonce
    state.epoch = header.epoch
    if header.witnessed_s is not None:
        state.witnessed_s = header.witnessed_s


def decide(
    state: PartitionState,
    operations: Sequence[Operation],
    time_ms: int,
    window: int,
    *,
    nonce: str | None = None,
) -> str:
    """Decide a batch as the apply script must, and apply it. Returns one outcome per operation.

    When no operation has an effect the state stays as it was, seq and `nonce` included.
    """
    seq = state.seq
    outcomes = decide_operations(state, operations, time_ms, window)
    if nonce is not None and state.seq != seq:
        state.nonce = nonce
    return outcomes


def check_chain(state: PartitionState, header: EntryHeader) -> None:
    """Whether the entry continues the partition's chain (G7), or `Corruption`."""
    seq = header.seq
    if seq != state.seq + 1:
        raise Corruption(f"entry {seq} follows entry {state.seq}")
    if header.prev_nonce != state.nonce:
        raise Corruption(f"entry {seq}: previous nonce is {header.prev_nonce}, not {state.nonce}")
    if header.epoch < state.epoch:
        raise Corruption(f"entry {seq}: epoch {header.epoch} follows epoch {state.epoch}")
    if header.time_ms < state.clock:
        raise Corruption(f"entry {seq}: time {header.time_ms} follows time {state.clock}")
    if header.window not in (state.window, state.window + 1) or (seq == 1 and header.window != 1):
        raise Corruption(f"entry {seq}: window {header.window} follows window {state.window}")


def _difference(header: EntryHeader, outcomes: str, operations: Sequence[Operation]) -> str:
    pairs = zip(outcomes, header.outcomes, strict=True)
    index, expected, recorded = next((i, e, r) for i, (e, r) in enumerate(pairs) if e != r)
    return (
        f"entry {header.seq}: operation {index} must come out as {expected!r}, recorded is {recorded!r}: "
        f"{operations[index].line()}"
    )
