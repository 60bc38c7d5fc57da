"""Every Redis key name of the engine, and nothing else.

All keys of one partition carry the partition's hash tag, so a partition is one live slot of the cluster.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PartitionKeys:
    """Key names of one partition; `tag` is `routing.slots.tag_of(partition, partitions)`."""

    tag: str

    @property
    def meta(self) -> str:
        """Hash: seq, nonce, epoch, owner, state, clock, window, window_started, currencies, flagged (flags exist)."""
        return f"meta{{{self.tag}}}"

    @property
    def journal(self) -> str:
        """Stream: entry id `<seq>-0`, one field `e` with the entry's text."""
        return f"journal{{{self.tag}}}"

    @property
    def open(self) -> str:
        """Sorted set: seq of own entries with outgoing money not settled; `<seq>.<idx>` for each refund made."""
        return f"open{{{self.tag}}}"

    @property
    def flags(self) -> str:
        """Hash, sparse: account -> `<status A|F|C>` then ` CCY=<overdraft minor units>` for each limit set."""
        return f"flags{{{self.tag}}}"

    def seen(self, window: int) -> str:
        """Hash of one dedupe window: `<from> <txid>` -> answer of a transfer; `<p>.<seq without
        its last digit>` -> credits received."""
        return f"seen:{window}{{{self.tag}}}"

    def balance(self, currency: str) -> str:
        """Hash: account -> minor units."""
        return f"balance:{currency}{{{self.tag}}}"
