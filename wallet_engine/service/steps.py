"""Work that is done step by step, so that other work may run in between."""

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")
#: A generator that does one step at a time and returns the result.
Steps = Generator[None, None, T]


def at_once(steps: Steps[T]) -> T:
    """Run all steps without a pause. Returns their result."""
    while True:
        try:
            next(steps)
        except StopIteration as ended:
            result: T = ended.value
            return result
