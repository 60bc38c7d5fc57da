"""The partitions of a transfer's two sides; the only code that knows the rule for system accounts.

An account is in the partition of its name. A system account is in every partition. When it pays, the
partition is that of the transaction id, which must be found without knowing the receiver; when it is paid, it
is that of the payer.
"""

from collections.abc import Sequence
from typing import Final

from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.routing.slots import partition_of, partitions_of

_SYSTEM: Final = "@"


class Homes:
    """The partitions of accounts, in a cluster with `partitions` partitions."""

    __slots__ = ("partitions",)

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions

    def __repr__(self) -> str:
        return f"<Homes partitions={self.partitions}>"

    def of(self, account_id: str) -> int:
        """The partition of an ordinary account."""
        return partition_of(account_id, self.partitions)

    def of_payer(self, account_id: str, transaction: str) -> int:
        """The partition that pays and remembers the (packed) transaction id."""
        return partition_of(transaction if account_id[0] == _SYSTEM else account_id, self.partitions)

    def of_receiver(self, account_id: str, payers: int) -> int:
        """The receiver's partition; `payers` is the payer's partition."""
        return payers if account_id[0] == _SYSTEM else partition_of(account_id, self.partitions)

    def of_sides(self, commands: Sequence[TransferCommand]) -> tuple[list[int], list[int]]:
        """The partitions of payers and receivers, in the order of the commands."""
        payers, receivers = [c[0] for c in commands], [c[1] for c in commands]
        if _SYSTEM in "".join(payers):
            payers = [c[4] if c[0][0] == _SYSTEM else c[0] for c in commands]
        payers_at = partitions_of(payers, self.partitions)
        receivers_at = partitions_of(receivers, self.partitions)
        if _SYSTEM in "".join(receivers):
            sides = zip(receivers, payers_at, receivers_at, strict=True)
            receivers_at = [p if receiver[0] == _SYSTEM else q for receiver, p, q in sides]
        return payers_at, receivers_at
