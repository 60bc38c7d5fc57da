"""Work that is done step by step, so that others may have a turn between."""

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")
#: What is done, and what comes of it.
Steps = Generator[None, None, T]


def at_once(steps: Steps[T]) -> T:
    """What comes of the steps when nobody has a turn between them."""
    while True:
        try:
            next(steps)
        except StopIteration as ended:
            result: T = ended.value
            return result
