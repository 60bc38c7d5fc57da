"""Partitions whose entries a test writes itself, with outcomes by the oracle; and a feed of them."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence

from wallet_engine.domain.columns import pack
from wallet_engine.domain.entry import RULES, EntryHeader, parse_header
from wallet_engine.domain.operation import parse_operation
from wallet_engine.domain.oracle import apply_payload
from wallet_engine.domain.oracle_rules import decide_operations
from wallet_engine.domain.oracle_state import PartitionState, redis_image, state_of_image
from wallet_engine.journal.feed import Feed, FeedEntry, FeedPosition, Followed

FIRST_MS = 1_795_255_200_000


class Written(Feed):
    """A feed of all partitions' entries, in the order in which they were written."""

    def __init__(self, partitions: int = 2) -> None:
        self.states = {partition: PartitionState() for partition in range(partitions)}
        self.payloads: list[tuple[int, bytes]] = []
        self.now_ms = FIRST_MS
        #: Entries that were read by `follow`, by partition.
        self.read: list[tuple[int, int]] = []

    def write(self, partition: int, *rows: str, after_ms: int = 1_000) -> FeedEntry:
        """Write one entry. A row is the outcome that it must have and the operation: `+ t <id> alice bob 5 USD`."""
        self.now_ms += after_ms
        state = self.states[partition]
        operations = [parse_operation(row[2:]) for row in rows]
        trial = state_of_image(redis_image(state), state.epoch)
        outcomes = decide_operations(trial, operations, self.now_ms, 1)
        assert outcomes == "".join(row[0] for row in rows), f"{outcomes} of {rows}"
        nonce = f"{partition:04x}{state.seq + 1:012x}"
        header = EntryHeader(state.seq + 1, state.nonce, nonce, 1, self.now_ms, 1, outcomes, RULES, 0)
        payload = header.text().encode() + b"\n" + pack(operations).columns
        apply_payload(state, payload)
        self.payloads.append((partition, payload))
        return FeedEntry(partition, header, payload)

    def all(self) -> list[FeedEntry]:
        """Every entry of every partition."""
        followed = Followed(dict.fromkeys(self.states, FeedPosition(0, None)))
        return [followed.take(partition, payload) for partition, payload in self.payloads]

    async def follow(self, after: Mapping[int, FeedPosition]) -> AsyncGenerator[Sequence[FeedEntry], None]:
        given = 0
        followed = Followed(after)
        while True:
            for partition, payload in self.payloads[given:]:
                given += 1
                seq = parse_header(payload).seq
                if partition in after and seq > after[partition].seq:
                    self.read.append((partition, seq))
                    yield [followed.take(partition, payload)]
            await asyncio.sleep(0.01)

    async def answers(self) -> dict[str, dict[int, int]]:
        return {"j1": {partition: state.seq for partition, state in self.states.items() if state.seq}}
