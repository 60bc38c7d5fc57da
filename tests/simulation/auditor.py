"""Checks every step against the guarantees. Knows the journal, the oracle and the answers that callers got.

The auditor folds each entry as soon as its journal quorum has it (the oracle decides every operation again). It also
keeps books across partitions, which no single partition's oracle can: which debit was credited where. It never raises;
it tells the world, which ends the run after the step.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from simulation.commands import Stream
from simulation.group_books import GroupBooks
from simulation.hold_books import HoldBooks
from simulation.redis_node import RedisNode
from simulation.world import World

from wallet_engine.domain.columns import unpack
from wallet_engine.domain.entry import EntryHeader, parse_entry
from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.group_commands import GroupAnswer, GroupCommand
from wallet_engine.domain.groups import Leg, parse_words
from wallet_engine.domain.hold_commands import CaptureCommand, HoldCommand, IncreaseCommand
from wallet_engine.domain.holds import CAPTURED, receiver_of
from wallet_engine.domain.ids import TRANSIT, is_system
from wallet_engine.domain.key_names import DUE, OPEN
from wallet_engine.domain.limits import STRIPE_LIMB_MINOR
from wallet_engine.domain.memory import transfer_field
from wallet_engine.domain.operation import Operation
from wallet_engine.domain.oracle import apply_payload
from wallet_engine.domain.oracle_state import CLOSED, WITNESSED, PartitionState, RedisImage, redis_image
from wallet_engine.domain.outcomes import Outcome
from wallet_engine.domain.returns import LEG, parse_evidence
from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.scripts import load_script
from wallet_engine.routing.slots import partition_of, tag_of
from wallet_engine.service.api import HoldAnswer

_APPLY: Final = {load_script("apply", extended=extended).sha.encode() for extended in (False, True)}
#: Facts of the cluster, not of the journal: not in an image.
_META_OF_THE_CLUSTER: Final = (b"epoch", b"owner", b"state", b"trimmed", b"form", b"move")

#: Status of a hold in the books, and in its record.
_CAPTURED: Final = ("captured", CAPTURED)

#: (partition, seq, idx) of a debit
Reference = tuple[int, int, int]


@dataclass(slots=True)
class Debit:
    """Money that has left an account. `ended` is `+` once credited, or a decline's character once refunded."""

    key: tuple[str, str]
    to: str
    amount: int
    currency: str
    time_ms: int
    declined: str = ""
    ended: str = ""


@dataclass(slots=True)
class Answer:
    """What the journal holds for (from, transaction): the first decision, rewritten by a refund."""

    outcome: str
    body: str
    time_ms: int
    debit: Reference | None


class Auditor:
    """One per simulation. `state[p]` is the fold of partition p's durable entries."""

    def __init__(self, world: World, partitions: int, quorum: int, retention_ms: int) -> None:
        self.world = world
        self.quorum = quorum
        self.retention_ms = retention_ms
        self.state = [PartitionState() for _ in range(partitions)]
        self.keys = [PartitionKeys(tag_of(p, partitions)) for p in range(partitions)]
        self._partition_of_stream = {keys.journal.encode(): p for p, keys in enumerate(self.keys)}
        self._partition_of = {keys.meta.encode(): p for p, keys in enumerate(self.keys)}
        #: (partition, seq) -> nonce -> journal copies that have it, with the payload
        self._copies: dict[tuple[int, int], dict[str, tuple[set[str], bytes]]] = {}
        #: (journal copy, partition) -> last seq on its disk, receipted or not
        self._on_disk: dict[tuple[str, int], int] = {}
        self.debits: dict[Reference, Debit] = {}
        self.answers: dict[tuple[str, str], Answer] = {}
        #: Refunds made, by payer and id, and how much of each original has gone back; minor units.
        self.refunded: dict[tuple[str, str], int] = {}
        self.returned: dict[tuple[str, str] | str, int] = {}
        #: Legs of paid groups, by the field under which refunds name them.
        self.legs: dict[str, Leg] = {}
        self.groups = GroupBooks(world)
        self.holds = HoldBooks(world)
        #: Answers given: (from, transaction, body) -> outcome
        self.given: dict[tuple[str, str, str], str] = {}
        #: (account, currency) -> seqs, and the balance after each
        self._history: dict[tuple[int, str, str], tuple[list[int], list[int]]] = {}
        self._in_flight: dict[str, int] = {}
        #: nonce -> the right time at which its script ran; clocks of nodes may be wrong
        self._ran_ms: dict[str, int] = {}
        #: (account, id) of every payment that a script has decided, whether that is durable or not
        self.ran: set[tuple[str, str]] = set()
        self.scripts = 0
        self.entries = 0
        self.checked_answers = 0

    def __repr__(self) -> str:
        return f"<Auditor scripts={self.scripts} entries={self.entries} answers={self.checked_answers}>"

    # The journal -----------------------------------------------------------------------------------------

    def on_disk(self, journal_id: str, partition: int, seq: int) -> None:
        """A copy has synced an entry, which it may not be allowed to receipt yet."""
        self._on_disk[journal_id, partition] = seq

    def reached(self, journal_id: str, partition: int) -> int:
        """The last entry that a copy has on its disk."""
        return self._on_disk.get((journal_id, partition), 0)

    def trimmed(self, stream: bytes, seq: int) -> None:
        """Redis has forgotten a stream up to this entry: a quorum of copies must have it."""
        partition = self._partition_of_stream[stream]
        holders = [who for (who, p), last in self._on_disk.items() if p == partition and last >= seq]
        if len(holders) < self.quorum:
            self.world.violate(f"G5: entry {seq} of partition {partition} is trimmed, only {holders} have it")

    def durable(self, journal_id: str, partition: int, payload: bytes, header: EntryHeader) -> None:
        """A journal copy has synced an entry."""
        copies = self._copies.setdefault((partition, header.seq), {})
        holders, _ = copies.setdefault(header.nonce, (set(), payload))
        if (
            journal_id in holders
        ):  # it had set the entry aside before it could receipt it, and has read it again
            return
        holders.add(journal_id)
        if len(holders) == self.quorum:
            if len(copies) > 1 and sum(len(has) >= self.quorum for has, _ in copies.values()) > 1:
                self.world.violate(f"G7: two entries {header.seq} of partition {partition} have a quorum")
            self._fold(partition, payload)

    def _fold(self, partition: int, payload: bytes) -> None:
        state = self.state[partition]
        try:
            header = apply_payload(state, payload)
        except Corruption as error:
            self.world.violate(f"G2/G3/G7: partition {partition}: {error}")
            return
        self.entries += 1
        self.world.note(f"durable p={partition} {payload.decode().strip()}")
        for idx, (operation, outcome) in enumerate(
            zip(parse_entry(payload).operations, header.outcomes, strict=True)
        ):
            if outcome in "=!":
                continue
            kind = operation.kind
            if kind in "td":
                body = f"{operation.other} {operation.amount_minor} {operation.currency}"
                self._decided(
                    kind,
                    (operation.account, operation.id),
                    body,
                    outcome,
                    (partition, header.seq, idx),
                    header,
                )
            elif kind == "c":
                self._credited(
                    operation.id, operation.account, int(operation.other), operation.amount_minor, outcome
                )
            elif kind == "r" and outcome == "+":
                self._refunded(partition, operation.other, operation.amount_minor)
            elif kind in "xz" and outcome not in "sn":  # these outcomes are not remembered
                self._gave_back(operation, outcome, (partition, header.seq, idx), header)
            elif kind == "j" and outcome == "+":
                self._took_back(partition, operation)
            elif kind == "s":
                self._settled(partition, int(operation.id))
            elif kind in "mgpybw":
                self._group(partition, operation, outcome, header)
            elif kind in "hikqulve":
                self._hold(operation, outcome, (partition, header.seq, idx), header)
            if outcome == "+" and kind in "tdcroxzj":
                other = parse_evidence(operation.other).payer if kind == "x" else operation.other
                names = (operation.account, other if kind in "tx" else TRANSIT)
                for name in names:
                    self._note_balance(partition, name, operation.currency, header.seq)
        self._check_held(partition)
        in_transit: dict[str, int] = {}
        for partition_state in self.state:
            for currency, minor in partition_state.in_transit().items():
                in_transit[currency] = in_transit.get(currency, 0) + minor
        for currency, minor in in_transit.items():
            if minor != self._in_flight.get(currency, 0):
                self.world.violate(
                    f"G1: {minor} {currency} on @transit, {self._in_flight.get(currency, 0)} in open debits"
                )

    def _hold(self, operation: Operation, outcome: str, reference: Reference, header: EntryHeader) -> None:
        partition, seq, idx = reference
        kind, account, currency = operation.kind, operation.account, operation.currency
        receiver = receiver_of(operation.other)
        if kind in "kq" and outcome not in "bs":  # these outcomes are not remembered
            body = f"{receiver} {operation.amount_minor} {currency}"
            key = (account, operation.id)
            self._decided("d" if kind == "q" else "t", key, body, outcome, reference, header)
        elif kind in "hi" and outcome not in "bs":
            self._decided("h", (account, operation.id), operation.other, outcome, reference, header)
        if outcome != "+":
            return
        if kind == "u":
            self._refunded(partition, receiver, operation.amount_minor)
        of = operation.other.partition("|")[0].split(".")
        debit = self.debits.get((partition, int(of[0]), int(of[1]))) if kind == "l" else None
        self.holds.took_place(
            operation, seq, idx, header.time_ms, credited=bool(debit and debit.ended == "+")
        )
        for name in (account, receiver if kind == "k" else TRANSIT):
            self._note_balance(partition, name, currency, seq)

    def _check_held(self, partition: int) -> None:
        """The held amount is what is left in open holds, plus what open groups have set aside."""
        state = self.state[partition]
        for currency, book in state.held.items():
            for account, minor in book.items():
                held = self.holds.held(account, currency)
                if minor != held and (minor < held or not state.groups):
                    self.world.violate(f"G2: {account} holds {minor} {currency}, its open holds {held}")

    def remembers(self, command: HoldCommand | CaptureCommand | IncreaseCommand) -> bool:
        return (command.account_id, command.transaction) in self.answers

    def captured(self, command: CaptureCommand) -> TransferCommand:
        """A paid capture, as a transfer."""
        to, minor, currency = self.answers[command.account_id, command.transaction].body.split(" ")
        return TransferCommand(command.account_id, to, int(minor), currency, command.transaction)

    def hold_answered(
        self, command: HoldCommand | CaptureCommand | IncreaseCommand, answer: HoldAnswer
    ) -> None:
        """A service answers a hold, or a use of one: it must be durable, and released money available (G4, G5)."""
        self.checked_answers += 1
        found = self.answers.get((command.account_id, command.transaction))
        said = "+" if answer.outcome == Outcome.REPEATED else answer.outcome
        if found is None:
            if said not in "acfhb":
                self.world.violate(f"G5: {answer} to {command}, of which the journal knows nothing")
            return
        final = found.outcome
        if found.debit is not None:
            final = self.debits[found.debit].ended or "open"
        if said not in (final, "b"):
            self.world.violate(f"G5: {answer} to {command}; in the journal it is {final}: {found}")
        if said != "+":
            return
        hold_id = command.transaction if isinstance(command, HoldCommand) else command.hold
        book = self.holds.find(command.account_id, hold_id)
        ended = isinstance(command, CaptureCommand) and command.final
        if book is None or answer.hold is None or (ended and (book.status, answer.hold.status) != _CAPTURED):
            self.world.violate(f"G5: {answer} to {command}, and the hold is {book}")

    def void_answered(self, placed: HoldCommand, answer: HoldAnswer, *, known: bool) -> None:
        """`known`: a service has answered, within the retention, that the hold exists."""
        self.checked_answers += 1
        book = self.holds.find(placed.account_id, placed.transaction)
        status = "" if book is None else book.status
        expected = {"+": ("voided", "expired"), "=": ("voided", "expired"), "o": ("captured",)}
        if status not in expected.get(answer.outcome, (status,)) or (known and answer.outcome in "ah"):
            self.world.violate(f"G5: {answer} to the void of {placed}, and the hold is {book}")

    def _group(self, partition: int, operation: Operation, outcome: str, header: EntryHeader) -> None:
        key, said = (operation.account, operation.id), parse_words(operation.other)
        before = self.answers.get(key)
        if operation.kind in "mg":
            if before is not None and before.outcome == "u":
                del self.answers[key]
            self._decided("g", key, said.mark, outcome, (partition, header.seq, 0), header)
            if before is not None and before.outcome == "+" and outcome == "u":
                self.answers[key] = before  # home has forgotten it; a part that has not knows the answer
        for currency, minor in self.groups.took_place(partition, operation, said, outcome).items():
            self._in_flight[currency] = self._in_flight.get(currency, 0) + minor
        for leg in said.legs if outcome == "+" else ():
            if operation.kind in "mg":
                self.legs[f"{transfer_field(*key)}{LEG}{leg.idx}"] = leg
            for name in (leg.payer, leg.receiver, TRANSIT):
                self._note_balance(partition, name, leg.currency, header.seq)

    def group_answered(self, command: GroupCommand, answer: GroupAnswer) -> None:
        """A service answers a group now: it must be decided, durable, and paid everywhere or nowhere (G1, G4, G5)."""
        self.checked_answers += 1
        found = self.answers.get((command.payer, command.transaction))
        if found is None or (found.outcome, found.body) != (answer.outcome, command.mark()):
            self.world.violate(f"G5: {answer} to {command}, in the journal: {found}")
        if answer.outcome == "+" and not self.groups.is_paid(
            command.payer, command.transaction, command.mark()
        ):
            self.world.violate(f"G1: {answer} to {command}, and not everybody has paid")

    def _note_balance(self, partition: int, account: str, currency: str, seq: int) -> None:
        balance = self.state[partition].balance(account, currency)
        if balance is None:
            return
        seqs, balances = self._history.setdefault((partition, account, currency), ([], []))
        if seqs and seqs[-1] == seq:
            balances[-1] = balance
        else:
            seqs.append(seq)
            balances.append(balance)

    def _decided(
        self,
        kind: str,
        key: tuple[str, str],
        body: str,
        outcome: str,
        reference: Reference,
        header: EntryHeader,
    ) -> None:
        before, ran_ms = self.answers.get(key), self._ran_ms[header.nonce]
        if before is not None and ran_ms - before.time_ms < self.retention_ms:
            self.world.violate(
                f"G4: {key} decided again ({outcome}) {ran_ms - before.time_ms} ms after {before}"
            )
        debit = reference if kind == "d" and outcome == "+" else None
        self.answers[key] = Answer(outcome, body, ran_ms, debit)
        if debit is not None:
            to, amount, currency = body.split(" ")
            self.debits[reference] = Debit(key, to, int(amount), currency, ran_ms)
            self._in_flight[currency] = self._in_flight.get(currency, 0) + int(amount)

    def _credited(self, entry: str, to: str, idx: int, amount: int, outcome: str) -> None:
        p, _, seq = entry.partition(".")
        reference = (int(p), int(seq), idx)
        debit = self.debits.get(reference)
        if debit is None or (debit.to, debit.amount) != (to, amount):
            self.world.violate(f"G1: credit {reference} to {to} of {amount}, but the debit is {debit}")
        elif debit.ended or debit.declined:
            self.world.violate(f"G4: credit {reference} decided again ({outcome}): {debit}")
        elif outcome == "+":
            debit.ended = "+"
            self._in_flight[debit.currency] -= amount
        else:
            debit.declined = outcome

    def _refunded(self, partition: int, text: str, amount: int) -> None:
        seq, idx, decline = text.split(".")
        reference = (partition, int(seq), int(idx))
        debit = self.debits.get(reference)
        if debit is None or debit.ended or debit.declined != decline or debit.amount != amount:
            self.world.violate(f"G1: refund {reference} of {amount} for {decline}, but the debit is {debit}")
            return
        debit.ended = decline
        flags = self.state[partition].flags.get(debit.key[0])
        if flags is not None and flags.status == CLOSED:
            self.world.violate(f"G1: {amount} came back to {debit.key[0]}, which is closed: {debit}")
        self._in_flight[debit.currency] -= amount
        self.answers[debit.key].outcome = decline

    def _gave_back(
        self, operation: Operation, outcome: str, reference: Reference, header: EntryHeader
    ) -> None:
        """A refund was decided: its original must match, be paid, and not have gone back in full before."""
        if outcome in (Outcome.STALE, Outcome.TRANSFER_FORGOTTEN):
            return  # not remembered: a repeat is decided anew
        said, key = parse_evidence(operation.other), (operation.account, operation.id)
        self._check_id_is_taken(operation, reference[0])
        self._decided("x", key, operation.other, outcome, reference, header)
        if outcome != "+":
            return
        original: tuple[str, str] | str = (said.payer, said.transaction)
        body = f"{operation.account} {said.amount_minor} {operation.currency}"
        if said.leg is not None:
            # A group that all have forgotten may be paid again, and each time is another original.
            original, leg = f"{said.field}@{said.place}", self.legs.get(said.field)
            if leg is None or leg[2:] != (
                said.payer,
                operation.account,
                said.amount_minor,
                operation.currency,
            ):
                self.world.violate(f"G1: refund of leg {original} as {body}, which is {leg}")
        else:
            self._check_original((said.payer, said.transaction), body)
        minor = self.refunded[key] = operation.amount_minor
        self.returned[original] = self.returned.get(original, 0) + minor
        if self.returned[original] > said.amount_minor:
            self.world.violate(f"G2: {self.returned[original]} of {original} have gone back, it was {body}")
        if operation.kind == "z":
            self.answers[key].debit = reference
            self.debits[reference] = Debit(
                key, said.payer, minor, operation.currency, self._ran_ms[header.nonce]
            )
            self._in_flight[operation.currency] = self._in_flight.get(operation.currency, 0) + minor

    def _check_original(self, original: tuple[str, str], body: str) -> None:
        paid = self.answers.get(original)
        ended = paid and (paid.outcome if paid.debit is None else self.debits[paid.debit].ended)
        if paid is None or paid.body != body or ended != "+":
            self.world.violate(f"G1: refund of {original} as {body}, which is {paid}, {ended}")

    def _check_id_is_taken(self, refund: Operation, partition: int) -> None:
        """A system account refunds where its original is. First the home of the id must have kept the id for that."""
        if not is_system(refund.account) or partition == partition_of(refund.id, len(self.keys)):
            return
        key = (refund.account, refund.id)
        taken = self.answers.get(key)
        if taken is None:
            self.world.violate(f"G4: the home of its id may give it to others: {refund.line()}")
        elif taken.outcome == Outcome.INTERRUPTED:
            del self.answers[key]

    def _took_back(self, partition: int, operation: Operation) -> None:
        """A refund was undone."""
        part, field, place = operation.other.split("|")
        self._refunded(partition, part, operation.amount_minor)
        del self.refunded[operation.account, operation.id]
        for original in self.returned:
            if original == f"{field}@{place}" or (
                type(original) is tuple and transfer_field(*original) == field
            ):
                self.returned[original] -= operation.amount_minor

    def refund_answered(self, account: str, transaction: str, code: str) -> None:
        """A service answers a refund now: the journal must say the same, and have said it already (G4, G5)."""
        self.checked_answers += 1
        answer = self.answers.get((account, transaction))
        final = None if answer is None else answer.outcome
        if answer is not None and answer.debit is not None:
            final = self.debits[answer.debit].ended or "open"
        if final != ("r" if code else "+"):
            self.world.violate(
                f"G5: {code or 'paid'} answered to refund {transaction}, in the journal: {answer}"
            )

    def _settled(self, partition: int, seq: int) -> None:
        for reference, debit in self.debits.items():
            if reference[:2] == (partition, seq) and not debit.ended:
                self.world.violate(
                    f"G9: entry {seq} of partition {partition} is settled, but {debit} is open"
                )

    # Redis -----------------------------------------------------------------------------------------------

    def script_ran(self, node: RedisNode, sha: bytes, argv: list[bytes], reply: Any) -> None:
        """A script ran on a node: check the state of the partitions after it."""
        if sha not in _APPLY:
            return
        self.scripts += 1
        for head, columns, answer in zip(argv[1::2], argv[2::2], reply, strict=True):
            if type(answer) is bytes:
                self._part_ran(node.store, head.split(b" "), columns, answer)

    def _part_ran(self, store: dict[bytes, Any], head: list[bytes], columns: bytes, answer: bytes) -> None:
        tag, currencies = head[0], head[5]
        for currency in filter(None, currencies.split(b",")):
            key = b"balance:%b%b" % (currency, tag)
            book = store.get(key)
            if book is None:
                continue
            aside = (store.get(key.replace(b"balance", name), {}) for name in (b"held", b"pending"))
            total = sum(int(minor) for other in aside for minor in other.values())
            for account, text in book.items():
                minor = int(text)
                total += minor * STRIPE_LIMB_MINOR if account.endswith(b"+") else minor
                if minor < 0 and not account.startswith(b"@"):
                    limit = self._limit(store, b"flags" + tag, account, key)
                    if minor < -limit:
                        self.world.violate(f"G3: {account.decode()} stands at {minor} in {key.decode()}")
            if total:
                self.world.violate(f"G2: {key.decode()} sums to {total}")
        header = answer.partition(b"\n")[0].decode().split(" ")
        self._ran_ms.setdefault(header[2], self.world.now_ms)
        self._credits_ran(unpack(columns), header[6])

    def _limit(self, store: dict[bytes, Any], flags_key: bytes, account: bytes, balance_key: bytes) -> int:
        currency = balance_key.partition(b":")[2].partition(b"{")[0]
        for word in store.get(flags_key, {}).get(account, b"").split(b" ")[1:]:
            name, _, limit = word.partition(b"=")
            if name == currency:
                return int(limit)
        return 0

    def _credits_ran(self, operations: Sequence[Operation], outcomes: str) -> None:
        for operation, outcome in zip(operations, outcomes, strict=True):
            kind, entry, to, idx, amount, *_ = operation
            if kind in "td":
                self.ran.add((to, entry))
            if kind == "c" and outcome != "=":
                p, _, seq = entry.partition(".")
                debit = self.debits.get((int(p), int(seq), int(idx)))
                if debit is None or (debit.to, debit.amount) != (to, amount):
                    self.world.violate(
                        f"G1: a credit ran and its debit is not on disk: {operation.line()} (durable: {debit})"
                    )

    def partition_of(self, meta_key: bytes) -> int:
        return self._partition_of[meta_key]

    def went_live(self, node: RedisNode, partition: int) -> None:
        """Recovery says that the partition equals the journal (G6)."""
        self.compare(node, partition, "after recovery")

    def compare(self, node: RedisNode, partition: int, when: str) -> None:
        """Whether Redis holds exactly what the oracle's fold of the journal holds."""
        image, expected = image_of(node, self.keys[partition]), redis_image(self.state[partition])
        # Time goes on after the newest entry.
        seen_s, recorded_s = (int(each.get("meta", {}).pop(WITNESSED, 0)) for each in (image, expected))
        if seen_s < recorded_s:
            self.world.violate(f"G4: partition {partition} {when}: {seen_s} s seen of {recorded_s} s")
        if image == expected:
            return
        for key in sorted(image.keys() | expected.keys()):
            here, there = image.get(key, {}), expected.get(key, {})
            if here != there:
                fields = sorted(f for f in here.keys() | there.keys() if here.get(f) != there.get(f))
                shown = [(f, here.get(f), there.get(f)) for f in fields[:3]]
                self.world.violate(
                    f"G6: partition {partition} {when}: {key} (field, Redis, journal): {shown}"
                )
                return

    # Callers ---------------------------------------------------------------------------------------------

    def answered(self, command: TransferCommand, outcome: str) -> None:
        """A service answers a transfer now: the journal must say the same, and have said it already (G4, G5)."""
        self.checked_answers += 1
        key = (command.from_account, command.transaction)
        body = f"{command.to_account} {command.amount_minor} {command.currency}"
        self.world.note(f"answer {outcome} to {key} {body}")
        answer = self.answers.get(key)
        if answer is None:
            self.world.violate(f"G5: {outcome} answered to {key}, of which the journal knows nothing")
            return
        if outcome == "!":
            if answer.body == body:
                self.world.violate(
                    f"G4: conflict answered to {key}, but the journal has the same body {body}"
                )
            return
        final = answer.outcome
        if answer.debit is not None:
            final = self.debits[answer.debit].ended or "open"
        if answer.body != body or final != outcome:
            self.world.violate(
                f"G5: {outcome} answered to {key} {body}; in the journal it is {final}: {answer}"
            )
        first = self.given.setdefault((*key, body), outcome)
        if first != outcome:
            self.world.violate(f"G4: {key} was answered {first}, now {outcome}")

    def read(self, partition: int, seq: int, account: str, currency: str, minor: int) -> None:
        """A balance is answered: it must be durable, and what the journal says at that seq (G8)."""
        if seq > self.state[partition].seq:
            self.world.violate(
                f"G8: balance of {account} read at {seq}, durable is {self.state[partition].seq}"
            )
            return
        seqs, balances = self._history.get((partition, account, currency), ([], []))
        at = bisect_right(seqs, seq)
        expected = balances[at - 1] if at else None
        if expected != minor:
            self.world.violate(
                f"G8: balance of {account} at {seq} read as {minor}, the journal has {expected}"
            )

    def balance(self, account: str, currency: str) -> int:
        """The durable balance over all partitions: what is available and what is held."""
        return sum(
            books.get(currency, {}).get(account, 0)
            for state in self.state
            for books in (state.balances, state.held)
        )


def image_of(node: RedisNode, keys: PartitionKeys) -> RedisImage:
    """Everything a node holds for a partition but the stream, in the form of `redis_image`."""
    image: RedisImage = {}
    suffix = b"{%b}" % keys.tag.encode()
    for key, value in node.store.items():
        if not key.endswith(suffix) or isinstance(value, Stream):
            continue
        name = key.removesuffix(suffix).decode()
        if name in (OPEN, DUE):
            image[name] = {member.decode(): f"{score:.0f}" for member, score in value.items()}
        else:
            skipped = _META_OF_THE_CLUSTER if name == "meta" else ()
            image[name] = {f.decode(): v.decode() for f, v in value.items() if f not in skipped}
    return {name: fields for name, fields in image.items() if fields}
