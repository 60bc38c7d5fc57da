"""Reads that are never undone (G8): a value is returned only when the entry it reflects is durable."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

import hiredis

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.holds import Hold, parse_hold
from wallet_engine.domain.limits import STRIPE_LIMB_MINOR
from wallet_engine.domain.operation import Operation, parse_operation
from wallet_engine.domain.oracle_state import Flags
from wallet_engine.engine.accumulator import HOLD_MS_MAX, Accumulator
from wallet_engine.engine.engine import Engine
from wallet_engine.engine.refusals import refusal_in
from wallet_engine.redis_store.connection import ConnectionLost, NotSent, Reply, Word
from wallet_engine.redis_store.scripts import load_script

_ACCOUNT_SHA: Final = load_script("read_account").sha
_TRANSFER_SHA: Final = load_script("read_transfer").sha
_HOLD_SHA: Final = load_script("read_hold").sha
_GROUP_SHA: Final = load_script("read_group").sha
_RETRY_S: Final = 0.05
_RECEIPT_TIMEOUT_S: Final = 5.0
#: Longer than the sweeper takes to end what a dead service left open.
_SETTLED_TIMEOUT_S: Final = 10.0
_DEFINITIONS_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class AccountRead:
    """One account in one partition. `balances` (available money) holds only currencies the account has.

    Minor units; a currency that is not in `held` or `pending` has 0 there.
    """

    partition: int
    seq: int
    status: str
    limits: dict[str, int]
    #: Currency -> maximum balance, if there is one.
    most: dict[str, int]
    balances: dict[str, int]
    held: dict[str, int] = field(default_factory=dict)
    pending: dict[str, int] = field(default_factory=dict)
    #: While a close, also an interrupted one, keeps the account frozen: the seq of the entry that froze it.
    closing_seq: int | None = None
    #: (seq, idx) of the operation whose note holds its metadata.
    noted: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class TransferRead:
    """The dedupe memory under one field; also the operation, if a transfer's entry has money on its way."""

    record: str | None
    open: bool
    #: None also when the entry is not in the stream.
    operation: Operation | None


@dataclass(frozen=True, slots=True)
class GroupRead:
    """The home's answer to a group, what it remembers besides it, and whether parts have still to be told.

    When read with the mark after the field, `remembered` is what a part remembers of the group.
    """

    answer: str | None
    remembered: str | None
    under_way: bool


def _minor(value: bytes) -> int:
    """`5`, or for a system account `5 2`, where 2 is what was carried (`lua/apply.lua`)."""
    part, _, limbs = value.partition(b" ")
    return int(part) + STRIPE_LIMB_MINOR * int(limbs or 0)


class Reader:
    """Runs the read scripts and waits for the receipts behind what they returned."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def position(self, partition: int) -> tuple[int, str]:
        """Seq and nonce of the newest entry, which is durable when this returns; (0, "") before the first."""
        reply, _ = await self._account(partition, "@transit")
        return reply[1], reply[2].decode() if reply[1] else ""

    async def account(self, partition: int, account: str) -> AccountRead:
        reply, currencies = await self._account(partition, account)
        flags = Flags.parse(reply[3].decode() if reply[3] is not None else "A")
        balances, held, pending = (
            {c: _minor(value) for c, value in zip(currencies, values, strict=True) if value is not None}
            for values in (reply[5::3], reply[6::3], reply[7::3])
        )
        closing_seq = None if flags.closing is None else int(flags.closing[1])
        seq, _, idx = reply[4].decode().partition(".") if reply[4] is not None else ("", "", "")
        noted = (int(seq), int(idx)) if seq else None
        words = (partition, reply[1], flags.status, flags.limits, flags.most)
        return AccountRead(*words, balances, held, pending, closing_seq, noted)

    async def _account(self, partition: int, account: str) -> tuple[list[Any], list[str]]:
        """The reply of `read_account`, and the currencies of its balances."""
        accumulator = self._engine.cluster.accumulators[partition]
        currencies: list[str] = []

        def command() -> tuple[Word, ...]:
            nonlocal currencies
            keys, currencies = accumulator.keys, accumulator.currencies
            balances = [
                name
                for currency in currencies
                for name in (keys.balance(currency), keys.held(currency), keys.pending(currency))
            ]
            head: tuple[Word, ...] = (
                "EVALSHA",
                _ACCOUNT_SHA,
                3 + len(balances),
                keys.meta,
                keys.flags,
                keys.noted,
                *balances,
            )
            return (*head, accumulator.epoch, account, ",".join(currencies))

        return await self._run(accumulator, command), currencies

    async def transfer(self, partition: int, field: str) -> TransferRead:
        """Of credits (their fields have a dot) what both windows have, of a transfer the newest record: before a group
        was paid, an attempt of it may have been void.
        """
        records, operation = await self._seen(partition, field)
        said = parse_operation(operation.decode()) if operation else None
        record = "".join(records) if "." in field else next(iter(records), None)
        return TransferRead(record or None, operation is not None, said)

    async def seen(self, partition: int, field: str) -> list[str]:
        """What the windows have under the field."""
        return (await self._seen(partition, field))[0]

    async def _seen(self, partition: int, field: str) -> tuple[list[str], bytes | None]:
        """What the windows have under the field, the one in force first, and the operation as in `read_transfer`."""
        accumulator = self._engine.cluster.accumulators[partition]

        def command() -> tuple[Word, ...]:
            keys, window = accumulator.keys, accumulator.window
            names = (keys.meta, keys.journal, keys.open, keys.seen(window), keys.seen(window - 1))
            return ("EVALSHA", _TRANSFER_SHA, len(names), *names, accumulator.epoch, window, field)

        reply = await self._run(accumulator, command)
        return [record.decode() for record in reply[3:5] if record is not None], reply[5]

    async def remembers(self, partition: int, field: str) -> bool:
        """Whether the dedupe memory has something under the field, durable or not.

        False if the partition is held.
        """
        accumulator = self._engine.cluster.accumulators[partition]
        keys, window = accumulator.keys, accumulator.window
        if accumulator.held_since_s is not None:
            return False
        now, before = (
            self.glance(partition, "HGET", keys.seen(number), field) for number in (window, window - 1)
        )
        return any(record is not None for record in await asyncio.gather(now, before))

    async def glance(self, partition: int, *words: Word) -> Reply:
        """The reply to one plain command, durable or not; None when the partition cannot be asked now."""
        cluster = self._engine.cluster
        shard = cluster.accumulators[partition].shard
        try:
            return await cluster.lanes[shard].call(*words)
        except (NotSent, ConnectionLost, KeyError):
            return None
        except hiredis.ReplyError as error:
            cluster.heed(shard, str(error))
            return None

    async def hold(self, partition: int, field: str) -> Hold | None:
        """A hold that is open, or ended and still remembered."""
        accumulator = self._engine.cluster.accumulators[partition]

        def command() -> tuple[Word, ...]:
            keys, window = accumulator.keys, accumulator.window
            names = (keys.meta, keys.hold, keys.seen(window), keys.seen(window - 1))
            return ("EVALSHA", _HOLD_SHA, len(names), *names, accumulator.epoch, window, field)

        record = (await self._run(accumulator, command))[3]
        return None if record is None else parse_hold(record.decode())

    async def group(self, partition: int, field: str) -> GroupRead:
        """A group that was decided and is still remembered."""
        answer, remembered, record = await self._group(partition, field, "", proved=True)
        texts = [None if text is None else text.decode() for text in (answer, remembered)]
        return GroupRead(texts[0], texts[1], record is not None)

    async def is_decided(self, home: int, field: str, mark: str) -> bool:
        """Whether home remembers something under a group's field, or that parts must still pay this body of it.

        Durable or not. Raises `Outage` when home cannot be asked.
        """
        answer, _, record = await self._group(home, field, mark, proved=False)
        return answer is not None or record is not None

    async def _group(self, partition: int, field: str, mark: str, *, proved: bool) -> list[Any]:
        accumulator = self._engine.cluster.accumulators[partition]

        def command() -> tuple[Word, ...]:
            keys, window = accumulator.keys, accumulator.window
            names = (keys.meta, keys.group, keys.seen(window), keys.seen(window - 1))
            return ("EVALSHA", _GROUP_SHA, len(names), *names, accumulator.epoch, window, field, mark)

        return (await self._run(accumulator, command, proved=proved))[3:6]

    async def durable(self, partition: int, seq: int, nonce: str) -> None:
        """Wait until the entry is on `journal_quorum` disks. Raises `Outage("journal_unavailable")`."""
        if seq == 0:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def receipted() -> None:
            if not future.done():
                future.set_result(None)

        self._engine.tracker.ask_needed(partition, seq, nonce, receipted)
        try:
            async with asyncio.timeout(_RECEIPT_TIMEOUT_S):
                await future
        except TimeoutError:
            raise Outage("journal_unavailable", "the newest entry is not confirmed by the journal") from None
        finally:  # also for a caller that hung up
            self._engine.tracker.forget(nonce, receipted)

    async def settled(self, partition: int, seq: int) -> None:
        """Wait until no entry up to `seq` has money on its way. Raises `Outage("partition_unavailable")`."""
        keys = self._engine.cluster.accumulators[partition].keys
        try:
            async with asyncio.timeout(_SETTLED_TIMEOUT_S):
                while True:
                    if await self.glance(partition, "ZRANGEBYSCORE", keys.open, 0, seq, "LIMIT", 0, 1) == []:
                        return
                    await asyncio.sleep(_RETRY_S)
        except TimeoutError:
            raise Outage(
                "partition_unavailable", "transfers of the partition are still on their way"
            ) from None

    async def _run(self, accumulator: Accumulator, command: Any, *, proved: bool = True) -> list[Any]:
        """The reply; `proved`: once the entry that it reflects is durable."""
        cluster = self._engine.cluster
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + HOLD_MS_MAX / 1000
        why = "not reachable"
        definitions = behind = 0
        while loop.time() < deadline_s:
            try:
                reply = await cluster.lanes[accumulator.shard].call(*command())
            except (NotSent, ConnectionLost, KeyError) as error:
                why = str(error)
            except hiredis.ReplyError as error:
                why = cluster.heed(accumulator.shard, str(error)).text
            else:
                refusal = refusal_in(reply)
                if refusal is None and reply[1] < cluster.tracker.latest_seq(accumulator.partition):
                    # Another service may just have written. If it happens repeatedly, Redis has lost entries.
                    why = "behind the journal"
                    behind += 1
                    if behind > 1:
                        cluster.ask_recovery(accumulator.shard, f"partition {accumulator.partition} is {why}")
                elif refusal is None:
                    if proved:
                        await self.durable(accumulator.partition, reply[1], reply[2].decode())
                    return list(reply)
                else:
                    why = refusal.why
                    if cluster.heed_script(accumulator, refusal) and definitions < _DEFINITIONS_MAX:
                        definitions += 1
                        continue
            await asyncio.sleep(_RETRY_S)
        raise Outage("partition_unavailable", f"partition {accumulator.partition} is not served now ({why})")
