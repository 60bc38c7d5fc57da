"""Random batches over a few accounts: all operations, repeats, right and wrong references, huge amounts."""

import random
from typing import Final

from wallet_engine.domain.groups import Leg, legs_text, parse_record, words
from wallet_engine.domain.holds import parse_hold
from wallet_engine.domain.memory import transfer_field
from wallet_engine.domain.oracle_state import PartitionState

MAX: Final = 2**53 - 1
ORDINARY: Final = ("alice", "bob", "carol", "dave", "eve", "frank")
SYSTEM: Final = ("@mint", "@fees", "@deep")
CURRENCIES: Final = ("USD", "USD", "USD", "EUR", "JPY")
KINDS: Final = "tttttttddddcccccrrrssofnhhhikkqquulvexxzzzjmmppppggyyyybbwa"


class RandomBatches:
    """`batch` draws operations that fit the state; `note` tells what became of them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.state = PartitionState()
        self.drawn: list[str] = []
        #: seq, idx and line of applied debits
        self.debits: list[tuple[int, int, str]] = []
        self.captures: list[tuple[int, int, str]] = []
        #: id, payer and currency of holds placed
        self.holds: list[tuple[str, str, str]] = []
        #: seq, idx and line of what was paid, and of refunds on their way
        self.paid: list[tuple[int, int, str]] = []
        self.returns: list[tuple[int, int, str]] = []

    def batch(self, size_max: int = 40) -> list[str]:
        """1 to `size_max` operations."""
        return [self._line() for _ in range(self.random.randint(1, size_max))]

    def rotates(self) -> bool:
        """Whether the next batch opens a window."""
        return self.state.seq > 0 and self.random.random() < 0.02

    def note(self, lines: list[str], outcomes: str) -> None:
        """Remember what later batches refer to; call it after `state` took the batch."""
        for idx, (line, outcome) in enumerate(zip(lines, outcomes, strict=True)):
            if line[0] == "d" and outcome == "+":
                self.debits.append((self.state.seq, idx, line))
            if line[0] == "q" and outcome == "+":
                self.captures.append((self.state.seq, idx, line))
            if line[0] == "h" and outcome == "+":
                _, txid, payer, _, _, currency = line.split(" ")
                self.holds.append((txid, payer, currency))
            if line[0] in "tkc" and outcome == "+":
                self.paid.append((self.state.seq, idx, line))
            if line[0] == "z" and outcome == "+":
                self.returns.append((self.state.seq, idx, line))
        self.paid, self.returns = self.paid[-40:], self.returns[-20:]
        self.captures, self.holds = self.captures[-30:], self.holds[-30:]
        self.debits = self.debits[-60:]
        self.drawn = (self.drawn + lines)[-200:]

    def _line(self) -> str:
        if self.drawn and self.random.random() < 0.12:
            return self.random.choice(self.drawn)
        kind = self.random.choice(KINDS)
        currency = self.random.choice(CURRENCIES)
        if kind == "o":
            limit = self.random.choice(("-", "-", "0", "50", "1000", str(MAX)))
            if self.random.random() < 0.15:
                limit += f"<{self.random.choice((0, 500, 10**6, 2**52))}"
            note = self.random.choice(("", "", ' {"meta":{"tier":"tin"}}'))
            return f"o - {self.random.choice(ORDINARY)} {limit} 0 {currency}{note}"
        if kind == "a":
            overdraft, most = (self.random.choice(("-", "0", "70", str(10**6), str(MAX))) for _ in range(2))
            note = self.random.choice(("", ' {"meta":{"tier":"gold"}}'))
            return f"a - {self.random.choice(ORDINARY)} {overdraft}|{most} 0 {currency}{note}"
        if kind == "f":
            since = self.random.randint(max(0, self.state.seq - 3), self.state.seq)
            change = self.random.choice(
                ("freeze", "unfreeze", "unfreeze", "close", "closing", f"close.{since}", f"reopen.{since}")
            )
            rare = change == "close" and self.random.random() < 0.8
            return f"f - {'nobody' if rare else self.random.choice(ORDINARY)} {change} 0 -"
        if kind == "n":
            return "n doctor - - 0 -"
        if kind == "s":
            return f"s {self._seq()} - - 0 -"
        if kind == "c":
            origin = f"{self.random.randint(0, 3)}.{self.random.randint(1, 12)}"
            return f"c {origin} {self._account()} {self.random.randint(0, 25)} {self._amount()} {currency}"
        if kind == "r":
            return self._refund(currency)
        if kind in "xzj":
            return self._return(kind)
        if kind in "hikqulve":
            return self._hold(kind, currency)
        if kind in "mpgybw":
            return self._group(kind)
        payer, payee = self._account(), self._account()
        while payee == payer:
            payee = self._account()
        if kind == "d":
            payee = self.random.choice(("far", "further"))
        return f"{kind} T{self.random.randint(1, 10_000)} {payer} {payee} {self._amount()} {currency}"

    def _refund(self, currency: str) -> str:
        decline = self.random.choice("acfl")
        if self.debits and self.random.random() < 0.8:
            seq, idx, line = self.random.choice(self.debits)
            _, txid, payer, _, amount, currency = line.split(" ")
            return f"r {txid} {payer} {seq}.{idx}.{decline} {amount} {currency}"
        txid = f"T{self.random.randint(1, 10_000)}"
        reference = f"{self._seq()}.{self.random.randint(0, 40)}.{decline}"
        return f"r {txid} {self._account()} {reference} {self._amount()} {currency}"

    def _return(self, kind: str) -> str:
        """Mostly of what was paid, mostly as it was, and mostly a part or what is left of it."""
        draw, txid = self.random, f"T{self.random.randint(1, 10_000)}"
        if kind == "j":
            seq, idx, line = self._seq(), 0, f"z {txid} bob x|{transfer_field('x', 'T1')}|1.1.1|c|9|- 9 USD"
            if self.returns and draw.random() < 0.9:
                seq, idx, line = draw.choice(self.returns)
            _, txid, account, other, amount, currency = line.split(" ")
            name = f"r.{other.split('|')[1]}"
            if any(int(w.get(name, amount)) < int(amount) for w in self.state.seen.values()):
                return "n doctor - - 0 -"  # a credit was forgotten and made again, which no receiver does
            part = f"{seq}.{idx}.{draw.choice('acfl')}"
            _, field, place, *_ = other.split("|")
            said = field if draw.random() < 0.1 else f"{field}|{place}"
            return f"j {txid} {account} {part}|{said} {amount} {currency}"
        line, seq, idx = "t T1 alice bob 5 USD", self._seq(), 0
        if self.paid and draw.random() < 0.95:
            seq, idx, line = draw.choice(self.paid)
        paid, original, payer, other, amount, currency = line.split(" ")
        receiver, place, how = other.partition("|")[0], f"0.{seq}.{idx}", "l"
        if paid == "c":
            place, receiver, payer, how = f"{original}.{other}", payer, "far", "c"
            original = place.replace(".", "_")
        field = transfer_field(payer, original)
        window = next((w for w in self.state.seen.values() if f"r.{field}" in w), {})
        rest = int(amount) - int(window.get(f"r.{field}", 0))
        asked, taken = draw.choice((("-", rest), ("-", rest + 1), (part := max(1, rest // 3), part)))
        asked, taken = (asked, taken) if taken else ("-", 0)
        if receiver == payer:
            receiver = "@fees" if payer != "@fees" else "bob"
        taken = min(max(0, taken), MAX)
        return f"{kind} {txid} {receiver} {payer}|{field}|{place}|{how}|{amount}|{asked} {taken} {currency}"

    def _hold(self, kind: str, currency: str) -> str:
        draw, txid, amount = self.random, f"T{self.random.randint(1, 10_000)}", self._amount()
        if kind == "h":
            to = draw.choice(("-", "-", "bob", "far"))
            return f"h {txid} {draw.choice(ORDINARY)} {to}|{draw.choice((0, 0, 10**9))} {amount} {currency}"
        hold, payer = f"T{draw.randint(1, 10_000)}", draw.choice(ORDINARY)
        if self.holds and draw.random() < 0.9:
            hold, payer, held_in = draw.choice(self.holds)
            currency = held_in if draw.random() < 0.95 else currency
        field = transfer_field(payer, hold)
        if kind == "i":
            return f"i {txid} {payer} {field} {amount} {currency}"
        if kind in "ve":
            return f"{kind} {hold} {payer} - 0 {currency}"
        if kind in "ul":
            return self._capture_end(kind)
        record = self.state.holds.get(field)
        asked = draw.choice(("-", str(amount)))
        remaining = amount if record is None else parse_hold(record).remaining
        taken = amount if asked != "-" or draw.random() < 0.1 else remaining
        to = "far" if kind == "q" else draw.choice(("bob", "carol", "@fees", "nobody", "far"))
        to = "@fees" if to == payer else to
        return f"{kind} {txid} {payer} {to}|{field}|{draw.choice('fp')}|{asked} {max(1, taken)} {currency}"

    def _capture_end(self, kind: str) -> str:
        draw = self.random
        seq, idx, line = self._seq(), 0, f"q T1 alice far|{transfer_field('alice', 'T2')}|f|- 5 USD"
        if self.captures and draw.random() < 0.9:
            seq, idx, line = draw.choice(self.captures)
        _, txid, payer, other, taken, currency = line.split(" ")
        field = other.split("|")[1]
        if kind == "u":
            return f"u {txid} {payer} {seq}.{idx}.{draw.choice('acfl')}|{field} {taken} {currency}"
        return f"l {txid} {payer} {seq}.{idx}|{field} 0 {currency}"

    def _group(self, kind: str) -> str:
        """Of a group that is new, or under way or over, with the right words or others."""
        draw, attempt, legs = self.random, self.random.choice((0, 0, 0, 1, 2)), self._legs(kind)
        txid, mark = f"T{draw.randint(1, 10_000)}", draw.choice(("X1", "X2"))
        payer = "far" if kind in "pyb" else draw.choice((*ORDINARY, "@mint"))
        status = "C" if kind in "gw" else "P"
        found = [(key, text) for key, text in self.state.groups.items() if text[0] == status]
        if found and draw.random() < (0.3 if kind in "mp" else 0.9):
            key, text = draw.choice(found)
            record = parse_record(text)
            txid, mark, payer = key[:-10], key[-2:], record.payer
            legs = legs_text(record.words.legs) if kind in "pybg" else legs
            attempt = record.words.attempt if draw.random() < 0.8 else attempt
        elif kind in "yb":
            txid = f"U{draw.randint(1, 10_000)}"  # of one that is under way the legs are given
        elif draw.random() < 0.3:
            _, txid, payer, *_ = draw.choice(self.drawn or ["m T1 alice"]).split(" ")[:3]
            txid, payer = txid.replace("U", "T"), payer if payer != "-" else "far"
        word = "c"
        if kind == "g":
            word = draw.choice(("c", "c", "r", f"a.{draw.randint(0, 3)}.{draw.choice('acfil')}"))
        elif kind != "m":
            word = "-"
        legs = "" if kind == "w" or word == "r" else legs
        return f"{kind} {txid} {payer} {words(mark, attempt, word, ())}{legs} 0 -"

    def _legs(self, kind: str) -> str:
        draw, legs = self.random, []
        for index in range(draw.choice((1, 1, 2, 3, 8))):
            role = {"m": "b", "g": draw.choice("prbn")}.get(kind, draw.choice("prb"))
            payer = self._account() if role in "pb" else "far"
            receiver = self._account() if role in "rb" else "further"
            receiver = "@other" if receiver == payer else receiver
            minor, currency = self._amount(), draw.choice(CURRENCIES)
            legs.append(Leg(role, index, payer, receiver, minor if draw.random() < 0.5 else 1, currency))
        return legs_text(legs)

    def _seq(self) -> int:
        if self.state.open and self.random.random() < 0.5:
            return self.random.choice(list(self.state.open))
        return self.random.randint(1, self.state.seq + 2)

    def _account(self) -> str:
        draw = self.random.random()
        if draw < 0.25:
            return self.random.choice(SYSTEM)
        return "nobody" if draw < 0.28 else self.random.choice(ORDINARY)

    def _amount(self) -> int:
        draw = self.random.random()
        if draw < 0.6:
            return self.random.randint(1, 100)
        if draw < 0.75:
            return self.random.randint(1, 10**6)
        if draw < 0.9:
            return MAX - self.random.randint(0, 3)
        return self.random.choice((2**52, 2**52 + 1, 2**51 - 1, 10**15 + 7))
