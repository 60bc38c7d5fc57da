"""The journal's side of the link to services: tells what became durable, takes entries, answers questions."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, cast

import msgspec

from wallet_engine.domain.errors import Corruption, WalletError, text_of
from wallet_engine.domain.principals import Principal
from wallet_engine.journal.bounds import Bounds
from wallet_engine.journal.brought import Brought
from wallet_engine.journal.copies_wire import PeerHello, Question, ToCopy, decode_at_copy
from wallet_engine.journal.door import Door
from wallet_engine.journal.feed_wire import FollowerHello
from wallet_engine.journal.link_terms import Durable, Session, group_receipts
from wallet_engine.journal.link_wire import (
    ASKS_PER_MESSAGE_MAX,
    RECEIPTS_PER_MESSAGE_MAX,
    Ask,
    Asks,
    CopyHello,
    FindCredits,
    FindEntry,
    MessageBuffer,
    MessageTooLong,
    NewEntries,
    NewEntry,
    Receipts,
    Recover,
    ServiceHello,
    Written,
    encode,
    notice_dead_peers,
)
from wallet_engine.journal.peer_tls import PeerTls, Shown, caller_of, peer_tls, shown_by
from wallet_engine.journal.questions import Questions
from wallet_engine.journal.refusals import TEXT_LENGTH_MAX, Refusals, Refused
from wallet_engine.journal.speakers import CALLERS, may_say
from wallet_engine.telemetry.descriptors import Reserve
from wallet_engine.telemetry.logging import get_logger

#: Maximum bytes that a service may leave unread. Above it the copy closes the connection; the service
#: reconnects and asks.
UNREAD_BYTES_MAX: Final = 8 * 1024 * 1024
CONNECTIONS_MAX: Final = 1000
#: Maximum connections of one principal.
CONNECTIONS_PER_CALLER_MAX: Final = 200
#: A connection is closed when its first message does not come within HELLO_S_MAX, or when a message stays
#: incomplete for HALF_MESSAGE_S_MAX.
HELLO_S_MAX: Final = 10.0
HALF_MESSAGE_S_MAX: Final = 30.0
#: Maximum bytes of incomplete messages of all connections together: 16 messages of the largest size.
HALF_BYTES_MAX: Final = 64 * 1024 * 1024
#: How often the server looks for such connections.
TIDY_S: Final = 1.0
#: Maximum waiting questions of one other copy or follower.
QUESTIONS_MAX: Final = 64
#: Maximum asks of one service that wait until the partition is confirmed.
WAITING_ASKS_MAX: Final = ASKS_PER_MESSAGE_MAX

log = get_logger(__name__)


class LinkServer:
    """Sends receipts to every connected service."""

    def __init__(
        self,
        durable: Durable,
        on_recover: Callable[[str, str], None],
        on_written: Callable[[Sequence[int]], None] = lambda partitions: None,
        on_new: Callable[[Sequence[NewEntry]], None] = lambda entries: None,
        on_peer: Callable[[str], Session] | None = None,
        on_follower: Callable[[str], Session] | None = None,
        *,
        tls: PeerTls | None = None,
        refusals: Refusals | None = None,
    ) -> None:
        """`on_recover(shard, reason)` is called when a service asks for recovery, `on_written(partitions)`
        when it has appended to their streams, `on_new(entries)` when it sends the entries it has appended;
        none may block. `on_peer(journal_id)` returns the session that answers another copy,
        `on_follower(name)` the one that answers a follower. `tls` defaults to that of the process.
        """
        self.durable = durable
        self.on_recover = on_recover
        self.on_written = on_written
        self.on_new = on_new
        self.on_peer = on_peer
        self.on_follower = on_follower
        self.connections: set[_ServiceConnection] = set()
        self.dropped = 0
        self.reserve = Reserve()
        self.brought = Brought()
        self.refusals = refusals or Refusals()
        self.questions = Questions(durable, self.refusals)
        #: The limits that messages must keep to; None until they are set.
        self.bounds: Bounds | None = None
        #: Every connection, including those of other copies, and the total bytes of their incomplete
        #: messages.
        self.open: set[_ServiceConnection] = set()
        self.half_bytes = 0
        self._tls = tls or peer_tls()
        self._door: Door | None = None
        self._tidying: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        services = sorted(connection.service_id for connection in self.connections)
        return f"<LinkServer {self.durable.journal_id} services={services} dropped={self.dropped}>"

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; port 0 takes any. Returns the address. Raises `OSError`."""
        self._door = Door(lambda: _ServiceConnection(self), self._tls, self.refusals, self.reserve)
        address = await self._door.open(host, port)
        self._tidying = asyncio.get_running_loop().create_task(self._tidy(), name="tidy")
        return address

    async def _tidy(self) -> None:
        """End connections that send no complete message in time, and those whose certificate was revoked."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TIDY_S)
            now_s = loop.time()
            revoked = frozenset[int]() if self._tls is None else self._tls.revoked()
            for connection in tuple(self.open):
                if connection.shown is not None and connection.shown.serial in revoked:
                    connection.refuse("revoked")
                elif (why := connection.idles(now_s)) is not None:
                    connection.refuse(why)

    def ending(self, before_s: float) -> dict[str, float]:
        """Peers whose certificate expires before that time -> when it expires (seconds since 1970)."""
        return {
            str(connection.principal): connection.shown.ends_s
            for connection in self.open
            if connection.shown is not None and connection.shown.ends_s < before_s
        }

    def room_for(self, connection: "_ServiceConnection") -> bool:
        """Whether the limits, in total and for its principal, allow this connection."""
        if len(self.open) >= CONNECTIONS_MAX:
            return False
        caller = connection.principal
        if caller is None:
            return True
        return sum(other.principal == caller for other in self.open) < CONNECTIONS_PER_CALLER_MAX

    def publish(self, receipts: Sequence[tuple[int, str, int]]) -> None:
        """Tell every service that these (partition, nonce, seq), in journal order, are durable.

        Each message is encoded once.
        """
        for start in range(0, len(receipts), RECEIPTS_PER_MESSAGE_MAX):
            message = encode(Receipts(group_receipts(receipts[start : start + RECEIPTS_PER_MESSAGE_MAX])))
            for connection in tuple(self.connections):
                connection.send(message)

    def confirmed(self, receipts: Sequence[tuple[int, str, int]]) -> None:
        """Partitions were confirmed: publish the withheld receipts, and answer the asks that waited."""
        self.publish(receipts)
        for connection in tuple(self.connections):
            connection.answer_waiting()

    async def close(self) -> None:
        """Stop listening and end every connection."""
        if self._door is not None and self._tidying is not None:
            self._tidying.cancel()
            await self._door.close()
            for connection in tuple(self.open):
                connection.abort()
            await self._door.closed()
            await self.questions.close()
            self._door = None
            await asyncio.sleep(0)


class _ServiceConnection(asyncio.Protocol):
    """One connected service."""

    def __init__(self, server: LinkServer) -> None:
        self.service_id = "?"
        self._server = server
        self._transport: asyncio.Transport | None = None
        #: The principal that the certificate names; None on a plain connection.
        self.principal: Principal | None = None
        self.shown: Shown | None = None
        self._messages = MessageBuffer()
        self._made_s = 0.0
        self._spoke = False
        #: Bytes of an incomplete message, and since when it is incomplete (loop time; 0 for none).
        self._half_bytes = 0
        self._half_s = 0.0
        self._waiting: list[Ask] = []
        #: Asks for entries that are older than what the copy remembers.
        self._old: list[Ask] = []
        self._looking_up: asyncio.Task[None] | None = None
        self._questions: asyncio.Queue[Question] | None = None
        self._answering: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass
        self._transport = transport
        connected = transport.get_extra_info("socket")
        secured, self.principal = caller_of(transport)
        self.shown = shown_by(transport)
        if secured and (self.principal is None or self.principal.role not in CALLERS):
            self.refuse("certificate")
            return
        if self._server.reserve.refuses(connected.fileno()) or not self._server.room_for(self):
            self.refuse("connections")
            return
        notice_dead_peers(connected)
        durable = self._server.durable
        try:
            positions = durable.positions()
        except WalletError:
            transport.abort()
            return
        hello = [(partition, at.seq, at.nonce) for partition, at in positions.items()]
        self._made_s = asyncio.get_running_loop().time()
        self._server.open.add(self)
        self._server.connections.add(self)
        self.send(encode(CopyHello(durable.journal_id, hello)))

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        for task in (self._answering, self._looking_up):
            if task is not None:
                task.cancel()

    def _forget(self) -> None:
        self._server.open.discard(self)
        self._server.connections.discard(self)
        self._server.half_bytes -= self._half_bytes
        self._half_bytes = 0

    def abort(self) -> None:
        self._forget()
        if self._transport is not None:
            self._transport.abort()

    def refuse(self, reason: str, **details: object) -> None:
        """Count the reason and end the connection."""
        self._server.refusals.note(reason, caller=self.principal or self.service_id, **details)
        self.abort()

    def idles(self, now_s: float) -> str | None:
        """The reason to end an idle connection, or None."""
        if self._half_bytes and now_s - self._half_s > HALF_MESSAGE_S_MAX:
            return "half_message"
        return "silence" if not self._spoke and now_s - self._made_s > HELLO_S_MAX else None

    def send(self, message: bytes) -> None:
        """Write the message. Drop the connection if the service reads too slowly."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(message)
        if transport.get_write_buffer_size() > UNREAD_BYTES_MAX:
            self._server.dropped += 1
            self.abort()

    def data_received(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return  # refused: ignore what was already on its way
        try:
            for body in self._messages.feed(data):
                message = decode_at_copy(body)
                self._spoke, self._half_s = True, 0.0
                if self.principal is not None and not may_say(self.principal, message):
                    self.refuse("role", said=type(message).__name__)
                    return
                bounds = self._server.bounds
                if bounds is not None and (why := bounds.why_not(message)) is not None:
                    self.refuse(why, said=type(message).__name__)
                    return
                self._take(message)
        except (MessageTooLong, msgspec.MsgspecError, Corruption) as error:
            self.refuse("message", error=text_of(error) or type(error).__name__)
        except asyncio.QueueFull:
            self.refuse("questions")
        except WalletError:
            self.abort()  # the writer has stopped: it will come again and ask
        else:
            if self._half_bytes or self._messages.waiting_bytes:
                self._note_half()

    def _note_half(self) -> None:
        """Limit the bytes of incomplete messages of all connections together."""
        waiting = self._messages.waiting_bytes
        self._server.half_bytes += waiting - self._half_bytes
        self._half_bytes = waiting
        if waiting and not self._half_s:
            self._half_s = asyncio.get_running_loop().time()
        if self._server.half_bytes > HALF_BYTES_MAX:
            self.refuse("half_messages")

    def _take(self, message: ToCopy) -> None:
        if isinstance(message, NewEntries):
            self._server.brought.note(str(self.principal or self.service_id), message.entries)
            self._server.on_new(message.entries)
        elif isinstance(message, Written):
            self._server.on_written(message.partitions)
        elif isinstance(message, Asks):
            self._answer(message.asks)
        elif isinstance(message, FindCredits | FindEntry):
            self._server.questions.take(message, self.send)
        elif isinstance(message, Recover):
            self._server.on_recover(message.shard, message.reason[:TEXT_LENGTH_MAX])
        elif isinstance(message, ServiceHello):
            self.service_id = message.service_id[:TEXT_LENGTH_MAX]
        elif isinstance(message, PeerHello):
            self._become_asker(message.journal_id, self._server.on_peer)
        elif isinstance(message, FollowerHello):
            self._become_asker(message.name[:TEXT_LENGTH_MAX], self._server.on_follower)
        elif self._questions is not None:
            self._questions.put_nowait(message)

    def _answer(self, asks: list[Ask]) -> None:
        remembers = self._server.durable.remembers
        asks = sorted(asks[:ASKS_PER_MESSAGE_MAX])
        answers = [remembers(ask) for ask in asks]
        self._say_held([ask for ask, held in zip(asks, answers, strict=True) if held])
        self._miss([ask for ask, held in zip(asks, answers, strict=True) if held is False])
        self._old += [ask for ask, held in zip(asks, answers, strict=True) if held is None]
        del self._old[:-WAITING_ASKS_MAX]
        if self._old and self._looking_up is None:
            self._looking_up = asyncio.get_running_loop().create_task(self._look_up(), name="asks")

    def _say_held(self, asks: Sequence[Ask]) -> None:
        if asks:
            groups = group_receipts([(partition, nonce, seq) for partition, seq, nonce in asks])
            self.send(encode(Receipts(groups)))

    def _miss(self, asks: Sequence[Ask]) -> None:
        if asks:
            self._server.on_written([partition for partition, _, _ in asks])
            self._waiting += asks
            del self._waiting[:-WAITING_ASKS_MAX]

    async def _look_up(self) -> None:
        """Answer the asks for entries that only the segments know."""
        try:
            while self._old:
                asks, self._old = self._old, []
                answers = await self._server.durable.receipted(asks)
                self._say_held([ask for ask, held in zip(asks, answers, strict=True) if held])
                self._miss([ask for ask, held in zip(asks, answers, strict=True) if not held])
        except (WalletError, OSError) as error:
            log.error("entries were not looked up", service=self.service_id, error=text_of(error))
            self.abort()  # it will come again and ask
        finally:
            self._looking_up = None

    def answer_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._answer(waiting)

    # The other end is a copy or a follower ---------------------------------------------------------------

    def _become_asker(self, name: str, begin: Callable[[str], Session] | None) -> None:
        """It wants answers, not receipts."""
        self._server.connections.discard(self)
        if begin is None or self._questions is not None:
            self.abort()
            return
        self.service_id = name
        self._questions = asyncio.Queue(QUESTIONS_MAX)
        self._answering = asyncio.get_running_loop().create_task(
            self._answer_questions(begin(name), self._questions), name=f"answers {name}"
        )

    async def _answer_questions(self, session: Session, questions: asyncio.Queue[Question]) -> None:
        try:
            while True:
                self.send(encode(await session.answer(await questions.get())))
        except Refused as error:
            self.refuse(error.reason, error=error)
        except (WalletError, OSError, TimeoutError):
            self.abort()  # it will come again and ask
        finally:
            session.close()
