"""Finds out who made and brought a wrong entry, as far as that is known. Asked only for wrong entries."""

import asyncio
from contextlib import aclosing
from typing import Final

from wallet_engine.domain.errors import WalletError, text_of
from wallet_engine.journal.feed import Feed

#: Maximum time for the search; the partition is already stopped by then.
ORIGIN_S_MAX: Final = 2.0


async def origin_of(feed: Feed, partition: int, seq: int) -> str:
    """Text for operators: the entry's epoch, who brought it to which copy, and the API keys that it names.

    The bringer is the holder of the connection's certificate, or on a plain connection the name that it gave. The keys
    are part of the entry, so the bringer could write any.
    """
    try:
        async with asyncio.timeout(ORIGIN_S_MAX):
            async with aclosing(feed.entries(partition, seq - 1)) as batches:
                found = (await anext(batches))[0]
            brought = await feed.brought(partition, found.nonce)
            keys = sorted({operation.by for operation in found.entry.operations} - {""})
    except (WalletError, OSError, TimeoutError) as error:
        return f"who brought it is not known: {text_of(error)}"
    said = [f"epoch {found.epoch}"]
    said += [f"brought to {copy} by {' and '.join(who)}" for copy, who in brought.items()]
    if not brought:
        said.append("who brought it is not known any more")
    if keys:
        said.append(f"for keys {', '.join(keys)}")
    return "; ".join(said)
