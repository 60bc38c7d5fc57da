"""The outcome of an attempt to deliver."""

from typing import NamedTuple


class Reply(NamedTuple):
    """The outcome of an attempt. Without a status there was no answer, and `error` says why."""

    status: int | None
    error: str = ""

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300
