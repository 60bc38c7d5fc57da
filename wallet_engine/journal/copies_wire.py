"""The messages between two journal copies, on the port and in the framing of the receipts (`link_wire`).

A copy says `peer` when it connects. From then on the other sends it no receipts, and answers its questions in
order. A question that cannot be answered ends the connection.

    ["peer", journal_id]                               first: who asks
    ["state", [partition, …]]                          -> ["standing", …]; no partitions: all
    ["promise", [[partition, epoch], …]]               -> ["standing", …]: from now on the copy durably refuses
                                                       entries of older epochs. If `promised` is above the epoch
                                                       asked for, it did not promise
    ["held", [[partition, seq, nonce], …]]             -> ["yes_no", [bool, …]]: is this nonce durable at this seq
    ["entries", [[partition, after_seq, last_seq], …]] -> ["entry_texts", …], some of them; the rest by ["more"]
    ["place", partition, seq]                          -> ["at", file, offset]
    ["follow", journal_id, address, [[partition, epoch, seq, nonce], …]]
                                                       -> ["followed", why_not]: fetch from there the entries up to
                                                       this seq that are missing here, and mark the chain as what
                                                       the epoch begins with
"""

from typing import NamedTuple

import msgspec

from wallet_engine.journal.feed_wire import FeedAnswer, FeedQuestion, FollowerHello
from wallet_engine.journal.link_wire import Ask, FromService


class Standing(NamedTuple):
    """A copy's state of one partition: its last durable entry, its promise, and its view.

    `view` is the newest epoch for which the chain holds at least what the epoch began with. Of two copies,
    the one with the higher (view, seq) has every entry of the other for which a caller got an answer.
    """

    partition: int
    seq: int
    nonce: str
    view: int
    promised: int


class Target(NamedTuple):
    """The chain of a partition that a copy must have before the epoch begins."""

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
    #: (partition, text), each partition in the order of its seqs. `done`: there are no more.
    entries: list[tuple[int, bytes]]
    done: bool


class Place(msgspec.Struct, tag="at", array_like=True):
    #: The segment's file name, and the offset of the entry's frame in it.
    file: str
    offset: int


class Followed(msgspec.Struct, tag="followed", array_like=True):
    #: Empty on success.
    why_not: str


Question = StateAsk | Promise | HeldAsk | EntriesAsk | More | PlaceAsk | Follow | FeedQuestion
Answer = Standings | YesNo | EntryTexts | Place | Followed | FeedAnswer

#: Messages to a copy, from services, other copies and followers (`feed_wire`).
ToCopy = FromService | PeerHello | FollowerHello | Question

decode_at_copy = msgspec.msgpack.Decoder[ToCopy](ToCopy).decode
decode_answer = msgspec.msgpack.Decoder[Answer](Answer).decode
