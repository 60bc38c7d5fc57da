"""The operations of one entry while they are decided. All rules share its postings and its dedupe memory.

One kind of posting covers all three ways in which money moves: a debit is a transfer to `@transit`, a credit
is a transfer from it. This works because a system account always exists and is never closed, frozen or out of
funds.
"""

import json

from wallet_engine.domain.entry import RULES
from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.limits import AMOUNT_MINOR_MAX, STRIPE_LIMB_MINOR
from wallet_engine.domain.oracle_memory import PAYER_WIDTH, answer_text, fingerprint_in
from wallet_engine.domain.oracle_state import CLOSED, FROZEN, Flags, PartitionState


class Batch:
    """The operations of one entry being decided, over the state they change in place."""

    __slots__ = (
        "balances",
        "carried",
        "current",
        "debited",
        "due",
        "flags",
        "groups",
        "held",
        "holds",
        "lowered",
        "note",
        "noted",
        "open",
        "pending",
        "previous",
        "recorded",
        "rules",
        "seq",
        "settled",
        "shifted",
        "time_ms",
        "touched",
        "window",
    )

    def __init__(
        self, state: PartitionState, window: int, time_ms: int, rules: int = RULES, recorded: str = ""
    ) -> None:
        self.seq = state.seq + 1
        self.rules = rules
        #: Outcomes recorded in the entry. Read only for entries of rules 1, which cannot all be decided
        #: without them.
        self.recorded = recorded
        self.time_ms = time_ms
        self.held, self.pending = state.held, state.pending
        self.holds, self.due = state.holds, state.due
        self.groups = state.groups
        self.noted = state.noted
        #: currency -> minor units that were added to what is held or pending, less those taken from there
        self.shifted: dict[str, int] = {}
        self.balances = state.balances
        self.carried = state.carried
        self.flags = state.flags
        self.open = state.open
        #: Entries that were open before this one.
        self.settled: set[int] = set()
        self.window = window
        #: The dedupe memory that new answers go to, and the older one that is still consulted.
        self.current: dict[str, str] = state.seen[window] if window == state.window else {}
        self.previous = state.seen[window - 1]
        #: (account, currency) whose overdraft limit this entry lowers: the balance may already be below the
        #: new one.
        self.lowered: set[tuple[str, str]] = set()
        #: The note of the operation that is being decided.
        self.note = ""
        #: Whether money left the partition with this entry; if so, the entry joins `open` at its end.
        self.debited = False
        #: currency -> account -> balance before this entry, of every account whose balance was written
        self.touched: dict[str, dict[str, int]] = {}

    def nothing_comes_back(self, closing: tuple[str, str] | None, since: str | None) -> bool:
        """Whether no refund can reach an account any more: no entry open before this one can hold its debit.

        An account that has been frozen since entry `since` can have debits only in entries up to that one.
        """
        before = self.open.keys() | self.settled
        if since is None:
            return not before and not self.debited
        return closing is not None and closing[1] == since and all(seq > int(since) for seq in before)

    def move(self, payer: str, paid: int, payee: str, got: int, amount: int, currency: str) -> None:
        """Write two balances; `paid` and `got` are the payer's and the payee's balances before."""
        touched = self.touched.get(currency)
        if touched is None:
            touched = self.touched[currency] = {}
        book = self.balances.get(currency)
        if book is None:
            book = self.balances[currency] = {}
        if payer not in touched:
            touched[payer] = book.get(payer, 0)
        if payee not in touched:
            touched[payee] = book.get(payee, 0)
        left = book[payer] = paid - amount
        full = book[payee] = got + amount
        if self.carried or left < -AMOUNT_MINOR_MAX or full > AMOUNT_MINOR_MAX:
            self._carry(payer, left, currency)
            self._carry(payee, full, currency)

    def add(self, account: str, currency: str, delta: int) -> None:
        """Write one balance.

        The caller balances it by a change of what is held or pending, or by another call.
        """
        book = self.balances.setdefault(currency, {})
        before = book.get(account, 0)
        self.touched.setdefault(currency, {}).setdefault(account, before)
        book[account] = before + delta
        self._carry(account, before + delta, currency)

    def shift(self, books: dict[str, dict[str, int]], account: str, currency: str, delta: int) -> None:
        """Add to what an account has held or pending. Raises `Corruption` if that falls below zero."""
        book = books.setdefault(currency, {})
        book[account] = book.get(account, 0) + delta
        if book[account] < 0:
            raise Corruption(f"entry {self.seq}: {account} has {book[account]} {currency} set aside")
        self.shifted[currency] = self.shifted.get(currency, 0) + delta

    def rewrite(self, field: str, decline: str, seq: int, idx: int) -> dict[str, str] | None:
        """The answer remembered there becomes a decline, if operation `idx` of entry `seq` was given it.

        Returns the window that has it. Rules before 5 did not ask whose answer it was.
        """
        for window in (self.current, self.previous):
            answer = window.get(field)
            if answer is None:
                continue
            if self.rules > 4 and answer != answer_text(answer[0], seq, fingerprint_in(answer), idx):
                continue
            window[field] = decline + answer[1:]
            return window
        return None

    def _carry(self, account: str, minor: int, currency: str) -> None:
        """Carry a part of a system account's new balance, if its own field would leave its bounds."""
        limbs = self.carried.get(currency, {}).get(account, 0)
        part = minor - STRIPE_LIMB_MINOR * limbs
        if account[:1] == "@" and not -AMOUNT_MINOR_MAX <= part <= AMOUNT_MINOR_MAX:
            self.carried.setdefault(currency, {})[account] = limbs + (1 if part > 0 else -1)

    def post(self, payer: str, payee: str, amount: int, currency: str) -> str:
        """Move money between two accounts of this partition, or return the refusal that takes precedence."""
        if not 0 < amount <= AMOUNT_MINOR_MAX or payer == payee:
            raise ValueError(f"{amount} from {payer} to {payee}")
        book = self.balances.get(currency)
        paid = got = None
        if book is not None:
            paid = book.get(payer)
            got = book.get(payee)
        if paid is None:
            if payer[:1] != "@":
                return "a"
            paid = 0
        if got is None:
            if payee[:1] != "@":
                return "g" if self.rules > 2 else "a"
            got = 0
        payer_flags = self.flags.get(payer)
        payee_flags = self.flags.get(payee)
        flagged = payer_flags is not None or payee_flags is not None
        if flagged and (refused := self.refused_for_status(payer_flags, payee_flags)):
            return refused
        left = paid - amount
        if left < 0:
            if payer[:1] == "@":
                if self.rules == 1 and left < -AMOUNT_MINOR_MAX:
                    return "l"
            elif payer_flags is None or left < -payer_flags.limits.get(currency, 0):
                return "i"
        if self.note and payer[:1] != "@" and left < json.loads(self.note).get("min", left):
            return "i"
        if got + amount > AMOUNT_MINOR_MAX and (payee[:1] != "@" or self.rules == 1):
            return "l"
        if payee_flags is not None and payee_flags.most and self.over_most(payee, currency, got + amount):
            return "l"
        self.move(payer, paid, payee, got, amount, currency)
        return "+"

    def refused_for_status(self, payer_flags: Flags | None, payee_flags: Flags | None) -> str | None:
        """The refusal for the status of the two sides.

        Flags are None for a side that is elsewhere or has no flags.
        """
        payer = None if payer_flags is None else payer_flags.status
        payee = None if payee_flags is None else payee_flags.status
        if CLOSED in (payer, payee):
            return "c" if payer == CLOSED or self.rules < 3 else "k"
        if FROZEN in (payer, payee):
            return "f" if payer == FROZEN or self.rules < 3 else "q"
        return None

    def over_most(self, account: str, currency: str, available: int) -> bool:
        """Whether an account with this much available would exceed its maximum balance."""
        flags = self.flags.get(account)
        most = None if flags is None else flags.most.get(currency)
        if most is None:
            return False
        beside = sum(books.get(currency, {}).get(account, 0) for books in (self.held, self.pending))
        return available + beside > most

    def answered(self, index: int, field: str, fingerprint: str) -> str | None:
        """`=` or `!` when the transfer was answered before, None when it is new."""
        answer = self.current.get(field)
        if answer is None:
            answer = self.previous.get(field)
            if answer is None:
                return self._answered_another(index, field) if self.rules == 1 else None
        return "=" if fingerprint_in(answer) == fingerprint else "!"

    def remember(self, field: str, outcome: str, fingerprint: str, index: int) -> None:
        """The outcome of operation `index` becomes the answer kept there."""
        self.current[field] = answer_text(outcome, self.seq, fingerprint, index)

    def _answered_another(self, index: int, field: str) -> str | None:
        """Rules 1 took names with equal CRC-32 for one payer: the recorded outcome if the id was answered."""
        recorded, transaction = self.recorded[index : index + 1], field[:-PAYER_WIDTH]
        if recorded in ("=", "!"):
            for window in (self.current, self.previous):
                if any(other.startswith(transaction) for other in window):
                    return recorded
        return None
