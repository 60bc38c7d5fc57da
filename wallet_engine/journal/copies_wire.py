"""The messages between two journal copies: on the port of the receipts, framed alike (`link_wire`).

A copy that connects says `peer` and is sent no receipts from then on; it asks, and each question is answered in
its turn. A question that cannot be answered ends the connection.

    ["peer", journal_id]                               first: who asks
    ["state", [partition, …]]                          -> ["standing", …]; no partitions: all
    ["promise", [[partition, epoch], …]]               -> ["standing", …]: from now on, durably, entries of older
                                                       epochs are refused. `promised` above the epoch asked for: no
    ["held", [[partition, seq, nonce], …]]             -> ["yes_no", [bool, …]]: is this nonce durable at this seq
    ["entries", [[partition, after_seq, last_seq], …]] -> ["entry_texts", …], some of them; the rest by ["more"]
    ["place", partition, seq]                          -> ["at", file, offset]
    ["follow", journal_id, address, [[partition, epoch, seq, nonce], …]]
                                                       -> ["followed", why_not]: fetch there what the chain up to
                                                       this seq lacks here, and mark it as what the epoch begins with
"""

from typing import NamedTuple

import msgspec

from wallet_engine.journal.feed_wire import FeedAnswer, FeedQuestion, FollowerHello
from wallet_engine.journal.link_wire import Ask, FromService


class Standing(NamedTuple):
    """Where a copy stands with one partition: its last durable entry, what it promised, what it has adopted.

    `view` is the newest epoch of which the chain holds at least what it began with. Of two copies the one with
    the higher (view, seq) has everything of the other that anybody was answered for.
    """

    partition: int
    seq: int
    nonce: str
    view: int
    promised: int


class Target(NamedTuple):
    """The chain that a copy must have of a partition before the epoch begins."""

    partition: int
    epoch: int
    seq: int
    nonce: str


class PeerHello(msgspec.Struct, tag="peer", array_like=True):
    journal_id: str


class StateAsk(msgspec.Struct, tag="state", array_like=True):
    partitions: list[int]


class Promise(msgspec.Struct, tag="promise", array_like=True):
    ballots: list[tuple[int, int]]


class HeldAsk(msgspec.Struct, tag="held", array_like=True):
    asks: list[Ask]


class EntriesAsk(msgspec.Struct, tag="entries", array_like=True):
    wants: list[tuple[int, int, int]]


class More(msgspec.Struct, tag="more", array_like=True):
    pass


class PlaceAsk(msgspec.Struct, tag="place", array_like=True):
    partition: int
    seq: int


class Follow(msgspec.Struct, tag="follow", array_like=True):
    journal_id: str
    address: str
    targets: list[Target]


class Standings(msgspec.Struct, tag="standing", array_like=True):
    standings: list[Standing]


class YesNo(msgspec.Struct, tag="yes_no", array_like=True):
    answers: list[bool]


class EntryTexts(msgspec.Struct, tag="entry_texts", array_like=True):
    #: (partition, text), each partition in the order of its seqs; `done`: there is no more.
    entries: list[tuple[int, bytes]]
    done: bool


class Place(msgspec.Struct, tag="at", array_like=True):
    #: The segment's name, and where in it the frame of the entry begins.
    file: str
    offset: int


class Followed(msgspec.Struct, tag="followed", array_like=True):
    #: Empty when it was done.
    why_not: str


Question = StateAsk | Promise | HeldAsk | EntriesAsk | More | PlaceAsk | Follow | FeedQuestion
Answer = Standings | YesNo | EntryTexts | Place | Followed | FeedAnswer

#: Messages to a copy, from services, other copies and followers (`feed_wire`).
ToCopy = FromService | PeerHello | FollowerHello | Question

decode_at_copy = msgspec.msgpack.Decoder[ToCopy](ToCopy).decode
decode_answer = msgspec.msgpack.Decoder[Answer](Answer).decode
