"""Threads for long work in a journal's directory: reading and rewriting it.

They are separate from the event loop's own pool. All threads of that pool may be waiting for locks in the
directory, which are released only after another copy has got its answer from the segments here.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar, TypeVarTuple

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

#: Maximum threads at work; they share the interpreter with the event loop.
THREADS_MAX: Final = 4

_pool: Final = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="journal")


def in_thread(work: Callable[[*Ts], R], *arguments: *Ts) -> asyncio.Future[R]:
    """Run the work in a thread.

    The future has its result or exception; the work starts even if not awaited.
    """
    return asyncio.get_running_loop().run_in_executor(_pool, work, *arguments)


#: The archive may take minutes for a segment, so reads from it have their own thread and delay no other
#: reads.
_from_archive: Final = ThreadPoolExecutor(1, thread_name_prefix="from-archive")


def in_archive_thread(work: Callable[[*Ts], R], *arguments: *Ts) -> asyncio.Future[R]:
    """`in_thread`, for work that must first restore a segment from the archive."""
    return asyncio.get_running_loop().run_in_executor(_from_archive, work, *arguments)
