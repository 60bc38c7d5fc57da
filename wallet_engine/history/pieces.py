"""Long work of a sink in pieces: other tasks get a turn in between."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, TypeVar

T = TypeVar("T")

#: Operations or rows processed without a break: a millisecond or two.
PIECE_MAX: Final = 64


async def in_pieces(items: Sequence[T], size: Callable[[T], int] = lambda _: 1) -> AsyncIterator[Sequence[T]]:
    """The items, about `PIECE_MAX` by their size at a time; other tasks get a turn in between."""
    begun = taken = 0
    for number, item in enumerate(items, 1):
        taken += size(item)
        if taken >= PIECE_MAX:
            yield items[begun:number]
            begun, taken = number, 0
            await asyncio.sleep(0)
    if begun < len(items):
        yield items[begun:]
