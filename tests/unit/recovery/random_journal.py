"""Random journals from a seed: every kind of entry, window rotations, several partitions."""

import random
from pathlib import Path

from lua.random_batches import RandomBatches

from wallet_engine.domain.columns import pack
from wallet_engine.domain.entry import RULES, parse_header
from wallet_engine.domain.operation import parse_operation
from wallet_engine.domain.oracle import apply_payload
from wallet_engine.domain.oracle_rules import decide_operations, has_effect
from wallet_engine.domain.oracle_state import PartitionState, RedisImage, redis_image, state_of_image
from wallet_engine.journal.reader import read
from wallet_engine.journal.writer import JournalWriter

START_MS = 1_795_255_200_000


class RandomJournal:
    """A random journal. `grow` writes it; in between it is closed, so that a test can damage or read it."""

    def __init__(
        self, directory: Path, seed: int, *, partitions: int = 3, segment_bytes_max: int = 6000
    ) -> None:
        self.directory = directory
        self.random = random.Random(seed)
        self.batches = [RandomBatches(seed * 100 + p) for p in range(partitions)]
        self.segment_bytes_max = segment_bytes_max
        self.entries = 0

    def grow(self, entries: int) -> None:
        """Append entries, each to a random partition. Some are in one group."""
        writer = JournalWriter(self.directory, "random", segment_bytes_max=self.segment_bytes_max)
        wanted = self.entries + entries
        while self.entries < wanted:
            partition = self.random.randrange(len(self.batches))
            payload = self._entry(self.batches[partition])
            if payload is not None:
                writer.append(partition, payload, parse_header(payload))
                self.entries += 1
                if self.random.random() < 0.4:
                    writer.sync()
        writer.sync()
        writer.close()

    def _entry(self, batches: RandomBatches) -> bytes | None:
        state, lines = batches.state, batches.batch(12)
        window = state.window + batches.rotates()
        time_ms = max(state.clock, START_MS) + self.random.randrange(3000)
        trial = state_of_image(redis_image(state), state.epoch)
        operations = [parse_operation(line) for line in lines]
        outcomes = decide_operations(trial, operations, time_ms, window)
        if not has_effect(operations, outcomes):
            return None
        nonce = f"{self.random.getrandbits(64):016x}"
        epoch = max(state.epoch, 1) + (self.random.random() < 0.05)
        # Some are in lines, as programs wrote them before columns.
        old = self.random.random() < 0.1
        text = "".join(f"{line}\n" for line in lines) if old else pack(operations).columns.decode()
        head = f"{state.seq + 1} {state.nonce} {nonce} {epoch} {time_ms} {window} {outcomes} {RULES}"
        payload = f"{head}\n{text}".encode()
        apply_payload(state, payload)
        batches.note(lines, outcomes)
        return payload

    def images(self) -> dict[int, RedisImage]:
        """The fold of the whole journal on disk, from the first entry."""
        states: dict[int, PartitionState] = {}
        for record in read(self.directory):
            apply_payload(states.setdefault(record.partition, PartitionState()), record.payload)
        return {partition: redis_image(state) for partition, state in states.items()}
