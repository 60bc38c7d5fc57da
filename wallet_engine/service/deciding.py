"""Waits for one decided operation, and proves answers such as "not found" or "already done".

A service may be cut off together with an old primary. State that it reads there is durable, but lacks later decisions.
Nothing that it writes there becomes durable. So it answers that something is absent, or was already done,
only after an entry of its own has become durable there.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, TypeVar

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.operation import Words
from wallet_engine.engine.batch import Batch
from wallet_engine.engine.engine import Engine
from wallet_engine.engine.positions import positions_noted
from wallet_engine.service.api import ANSWER_TIMEOUT_S

#: As long as a read waits for the newest entry (`engine/reads.py`).
PROOF_S_MAX: Final = 5.0
_PROBE: Final[Words] = ("n", "service", "-", "-", 0, "-", "", "")

T = TypeVar("T")


class Decided(NamedTuple):
    outcome: str
    #: See `Batch.detail`.
    detail: list[str]
    #: The newest entry of the partition when it was decided, and whether the operation is in that entry.
    seq: int
    has_entry: bool
    epoch: int


class _Waiting:
    """Waits for one operation."""

    def __init__(self) -> None:
        self.future: asyncio.Future[Decided] = asyncio.get_running_loop().create_future()
        self._positions = positions_noted()

    def committed(self, outcome: str, idx: int, batch: Batch) -> None:
        self._positions[batch.partition] = batch.entry
        if not self.future.done():
            has_entry = batch.effective_nonce == batch.nonce
            self.future.set_result(Decided(outcome, batch.detail(idx), batch.seq, has_entry, batch.epoch))

    def failed(self, outage: Outage) -> None:
        if not self.future.done():
            self.future.set_exception(outage)


async def decide(engine: Engine, partition: int, words: Words, issued_s: float | None = None) -> Decided:
    """Have one operation decided and made durable; `issued_s`: when it was asked for. Raises `Outage`."""
    waiting = _Waiting()
    engine.submit(partition, words, waiting, engine.now_s() if issued_s is None else issued_s)
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            return await asyncio.shield(waiting.future)
    except TimeoutError:
        raise Outage("outcome_unknown", "not confirmed in time: repeat the request") from None


async def prove(engine: Engine, partition: int) -> int:
    """Write an entry that changes nothing; returns its epoch when it is durable.

    Raises `Outage` with a code that promises that nothing was done, which is true even if the entry becomes
    durable.
    """
    try:
        async with asyncio.timeout(PROOF_S_MAX):
            return (await decide(engine, partition, _PROBE)).epoch
    except TimeoutError:
        detail = f"an entry that changes nothing was not confirmed within {PROOF_S_MAX:.0f} s"
        raise Outage("journal_unavailable", detail) from None
    except Outage as outage:
        code = "partition_unavailable" if outage.code == "outcome_unknown" else outage.code
        raise Outage(code, outage.detail, retry_after_s=outage.retry_after_s) from None


async def read_after(read: Awaitable[T]) -> T:
    """What is read for the answer to an operation that has changed something.

    Raises `Outage("outcome_unknown")`: the other codes promise that nothing was done.
    """
    try:
        return await read
    except Outage as outage:
        raise Outage("outcome_unknown", f"{outage.detail}: repeat the request for its answer") from None


async def looked_up(engine: Engine, partition: int, look: Callable[[], Awaitable[T | None]]) -> T | None:
    """What `look` finds in the partition. If it finds nothing, it looks again after a proof."""
    found = await look()
    if found is None:
        await prove(engine, partition)
        found = await look()
    return found
