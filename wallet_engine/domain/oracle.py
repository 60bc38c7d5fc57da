"""The oracle: an independent fold of journal entries over a partition's state, the specification in code.

It decides every operation of an entry again (`oracle_rules`) and refuses an entry whose recorded outcomes
differ, or that does not continue the partition's chain. Replay, `verify`, the audit commands and the tests of
the Lua scripts all hold their result against it.
"""

from collections.abc import Iterable, Sequence

from wallet_engine.domain.entry import Entry, EntryHeader, Operation, operations_of, parse_header
from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.oracle_rules import decide_lines
from wallet_engine.domain.oracle_state import PartitionState


def apply_payload(state: PartitionState, payload: bytes) -> EntryHeader:
    """Fold one entry, as text, into the state. Returns its header.

    Raises `Corruption` when the entry is malformed, breaks the chain, or does not come out as recorded; the
    state must then not be used any more.
    """
    header, blob = parse_header(payload), operations_of(payload)
    try:
        lines = blob.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise Corruption(f"entry {header.seq}: operations are not ASCII") from None
    if lines.pop() != "" or len(lines) != len(header.outcomes):
        raise Corruption(f"entry {header.seq}: {len(lines)} operations, {len(header.outcomes)} outcomes")
    _apply_lines(state, header, lines)
    return header


def apply_entry(state: PartitionState, entry: Entry) -> None:
    """As `apply_payload`, for an entry already parsed."""
    if len(entry.operations) != len(entry.header.outcomes):
        raise Corruption(
            f"entry {entry.header.seq}: {len(entry.operations)} operations, "
            f"{len(entry.header.outcomes)} outcomes"
        )
    _apply_lines(state, entry.header, _lines(entry.operations))


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
    outcomes = decide_lines(state, _lines(operations), time_ms, window)
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


def _lines(operations: Iterable[Operation]) -> list[str]:
    return [operation.line()[:-1] for operation in operations]


def _apply_lines(state: PartitionState, header: EntryHeader, lines: Sequence[str]) -> None:
    check_chain(state, header)
    outcomes = decide_lines(state, lines, header.time_ms, header.window)
    if outcomes != header.outcomes:
        raise Corruption(_difference(header, outcomes, lines))
    if state.seq != header.seq:
        raise Corruption(f"entry {header.seq}: no operation has an effect, outcomes {outcomes!r}")
    state.nonce = header.nonce
    state.epoch = header.epoch


def _difference(header: EntryHeader, outcomes: str, lines: Sequence[str]) -> str:
    pairs = zip(outcomes, header.outcomes, strict=True)
    index, expected, recorded = next((i, e, r) for i, (e, r) in enumerate(pairs) if e != r)
    return (
        f"entry {header.seq}: operation {index} must come out as {expected!r}, recorded is {recorded!r}: "
        f"{lines[index]}"
    )
