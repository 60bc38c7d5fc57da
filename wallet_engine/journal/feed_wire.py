"""The messages between a journal copy and a follower, on the port and in the framing of the receipts
(`link_wire`).

A follower says `follower` when it connects. From then on the copy sends it no receipts; it asks questions,
and the copy answers them in order. The copy sends only answers, so a follower that is slow or has stopped
costs it nothing.

    ["follower", name]                       first: who asks
    ["locate", [[partition, seq], …]]        -> ["located", segment, offset, running_hash]: a place in this copy's files
                                             before every entry behind these seqs. From now on the copy reports
                                             the ends of these partitions
    ["read", segment, offset, bytes_max, news]
                                             -> ["bytes", data, at_end, [[partition, seq], …]]: the bytes on disk
                                             from there on, as in the file, and the ends that have changed since they
                                             were last reported. `at_end`: there is no more. With `news` the answer
                                             waits, for a second at most, until an end has changed
    ["brought", partition, nonce]            -> ["by", [who, …]]: the services that brought this copy this entry of the
                                             last seconds; empty when unknown, or when the copy fetched it
    ["ends"]                                 -> ["ended", [[partition, seq], …], [[partition, seq], …]]: the ends of all
                                             partitions; and the last entry that this copy has got, on disk or not, of
                                             those where it is behind the end

An end is the last entry of a partition that, as far as this copy knows, a quorum of the copies has, and that
this copy has too. The copy finds it before it reads the bytes: entries up to it are final; later ones may be
taken back. The copy sends whole stretches of its files, because picking entries would take time from
payments; the follower picks them (`feed_client`).
"""

from typing import Final

import msgspec

#: Maximum bytes of one answer; every frame fits.
FEED_BYTES_MAX: Final = 2 * 1024 * 1024
#: How long a question with `news` waits for a changed end.
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
    #: Absent in the answers of older copies.
    later: list[End] = []


class BroughtAsk(msgspec.Struct, tag="brought", array_like=True):
    partition: int
    nonce: str


class BroughtBy(msgspec.Struct, tag="by", array_like=True):
    who: list[str]


FeedQuestion = Locate | ReadAsk | EndsAsk | BroughtAsk
FeedAnswer = Located | FeedBytes | Ended | BroughtBy
