"""What a journal copy tells of a partition that it cannot recover: its words, and their reading by `doctor`."""

import re
from typing import Final

_TOLD: Final = "partition {} is not recovered: "
_told_match: Final = re.compile(_TOLD.format("([0-9]{1,9})")).match


def refusal_told(partition: int, why: str) -> str:
    """The sentence in the copy's registration."""
    return _TOLD.format(partition) + why


def refused_partition(told: str) -> int | None:
    """The partition of which a copy tells that it is not recovered; None if it tells anything else."""
    found = _told_match(told)
    return None if found is None else int(found[1])
