"""Every Redis key name of the engine, and nothing else.

All keys of one partition carry the partition's hash tag, so a partition is one live slot of the cluster.
"""


class PartitionKeys:
    """Key names of one partition; `tag` is `routing.slots.tag_of(partition, partitions)`."""

    __slots__ = ("braced", "due", "flags", "group", "hold", "journal", "meta", "noted", "open", "tag")

    def __init__(self, tag: str) -> None:
        self.tag = tag
        #: The end of every name.
        self.braced = f"{{{tag}}}"
        #: Hash: seq, nonce, epoch, owner, state, clock, window, witnessed_s, currencies, flagged (flags exist),
        #: trimmed (how far `lua/trim.lua` has come beyond open entries), form (version of the records in
        #: `seen`).
        self.meta = f"meta{self.braced}"
        #: Stream: entry id `<seq>-0`, fields as `redis_store/stream.py` makes them from an entry's text.
        self.journal = f"journal{self.braced}"
        #: Sorted set: seq of own entries with unsettled outgoing money; `<seq>.<idx>` for each refund made.
        self.open = f"open{self.braced}"
        #: Hash, sparse: account -> `<status A|F|C>` then ` CCY=<overdraft minor units>` for each limit set.
        self.flags = f"flags{self.braced}"

        #: Hash: field of (account, id) -> open hold (`domain/holds.py`). Sorted set `due`: the same fields,
        #: with the expiry in Unix milliseconds as score.
        self.hold = f"hold{self.braced}"
        self.due = f"due{self.braced}"
        #: Hash: field of (first payer, id) and mark -> a group that is under way here.
        self.group = f"group{self.braced}"
        #: Hash, sparse: account -> `seq.idx` of the operation with its metadata, which is in the journal.
        self.noted = f"noted{self.braced}"

    def __repr__(self) -> str:
        return f"<PartitionKeys {self.tag}>"

    def seen(self, window: int) -> str:
        """Hash of one dedupe window: answers of transfers, credits received (`domain/memory.py`)."""
        return f"seen:{window}{self.braced}"

    def balance(self, currency: str) -> str:
        """Hash: account -> minor units; `<system account>+` -> how many `STRIPE_LIMB_MINOR` to add."""
        return f"balance:{currency}{self.braced}"

    def held(self, currency: str) -> str:
        """Hash: account -> minor units of its money that holds and groups have set aside."""
        return f"held:{currency}{self.braced}"

    def pending(self, currency: str) -> str:
        """Hash: account -> minor units that are coming in by groups."""
        return f"pending:{currency}{self.braced}"
