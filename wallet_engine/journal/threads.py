"""Threads for long work in a journal's directory: reading it, and writing it anew.

They are separate from the event loop's own pool. All threads of that pool may be waiting for locks in the directory,
which are released only when another copy has been answered from the segments here.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar, TypeVarTuple

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

#: At work at the same time, each in its turn with the event loop.
THREADS_MAX: Final = 4

_pool: Final = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="journal")


def in_thread(work: Callable[[*Ts], R], *arguments: *Ts) -> asyncio.Future[R]:
    """What the work returns or raises, once it is done. It begins whether anybody waits for it or not."""
    return asyncio.get_running_loop().run_in_executor(_pool, work, *arguments)


#: The archive may take minutes for a segment: what is read from it waits beside everything else that is read here.
_from_archive: Final = ThreadPoolExecutor(1, thread_name_prefix="from-archive")


def in_archive_thread(work: Callable[[*Ts], R], *arguments: *Ts) -> asyncio.Future[R]:
    """`in_thread`, for what has to be brought from the archive first."""
    return asyncio.get_running_loop().run_in_executor(_from_archive, work, *arguments)
