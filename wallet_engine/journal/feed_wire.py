"""The messages between a journal copy and a follower: on the port of the receipts, framed alike (`link_wire`).

A follower that connects says `follower` and is sent no receipts from then on; it asks, and each question is answered in
its turn. Nothing is sent that was not asked for, so a follower that is slow, or stands still, costs a copy nothing.

    ["follower", name]                       first: who asks
    ["locate", [[partition, seq], …]]        -> ["located", segment, offset, running_hash]: a place in this copy's files
                                             in front of everything behind these seqs. These are from now on the
                                             partitions of which ends are told
    ["read", segment, offset, bytes_max, news]
                                             -> ["bytes", data, at_end, [[partition, seq], …]]: what is on disk from
                                             there on, frames as they stand in the file, and the ends that have changed
                                             since they were told last. `at_end`: there is no more. With `news` the
                                             answer waits, for a second at most, until an end has changed
    ["brought", partition, nonce]            -> ["by", [who, …]]: who brought this copy an entry of the last seconds;
                                             none when that is not known, or the copy has fetched it
    ["ends"]                                 -> ["ended", [[partition, seq], …]]: the ends of all partitions

An end is the last entry of a partition that a quorum of the copies has, as far as this copy knows and has it itself. It
was found before the bytes were read: entries up to it are final, and what stands behind it may be taken back. A copy
cuts nothing out of its files, which would cost it the time that payments need; the follower does (`feed_client`).
"""

from typing import Final

import msgspec

#: Bytes of one answer: any frame fits.
FEED_BYTES_MAX: Final = 2 * 1024 * 1024
#: How long a question for news waits for some.
NEWS_S_MAX: Final = 1.0

#: (partition, seq)
End = tuple[int, int]


class FollowerHello(msgspec.Struct, tag="follower", array_like=True):
    name: str


class Locate(msgspec.Struct, tag="locate", array_like=True):
    after: list[End]


class ReadAsk(msgspec.Struct, tag="read", array_like=True):
    segment: int
    offset: int
    bytes_max: int
    news: bool


class EndsAsk(msgspec.Struct, tag="ends", array_like=True):
    pass


class Located(msgspec.Struct, tag="located", array_like=True):
    segment: int
    offset: int
    running_hash: bytes


class FeedBytes(msgspec.Struct, tag="bytes", array_like=True):
    data: bytes
    at_end: bool
    ends: list[End]


class Ended(msgspec.Struct, tag="ended", array_like=True):
    ends: list[End]


class BroughtAsk(msgspec.Struct, tag="brought", array_like=True):
    partition: int
    nonce: str


class BroughtBy(msgspec.Struct, tag="by", array_like=True):
    who: list[str]


FeedQuestion = Locate | ReadAsk | EndsAsk | BroughtAsk
FeedAnswer = Located | FeedBytes | Ended | BroughtBy
