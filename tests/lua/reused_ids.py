"""Random batches with few ids and many windows: ids are used again while their first money is still under way.

After every entry `note` checks what a repeat would be told (G4), that no original is refunded beyond its amount
and that no hold is captured beyond its own. It keeps its own books for that.
"""

from collections import Counter

from lua.random_batches import RandomBatches

from wallet_engine.domain.holds import parse_hold
from wallet_engine.domain.memory import TransferRecord, transfer_field

PAYERS = ("alice", "bob")
OPENING = [f"o - {payer} - 0 USD" for payer in PAYERS] + [
    f"t FUND{payer} @mint {payer} 100000 USD" for payer in PAYERS
]
KINDS = "tdddhhhqqqqkvvvcczzzzzxrruuujjjjlsei"

#: seq and idx of an operation
Place = tuple[int, int]


class ReusedIds(RandomBatches):
    """`strict`: `note` checks. Entries of rules before 5 do not pass."""

    def __init__(self, seed: int, *, strict: bool = True) -> None:
        super().__init__(seed)
        self.strict = strict
        #: window, place and line of what has left and may come back
        self.under_way: list[tuple[int, Place, str]] = []
        #: id of a payer elsewhere -> window, place of the debit there, receiver and minor units of its credit
        self.credits: dict[str, tuple[int, str, str, int]] = {}
        #: Credits that may be forgotten, and are refunded as a store knows them: id, place, receiver, minor units.
        self.past: list[tuple[str, str, str, int]] = []
        #: field -> place and outcome of the answer given last
        self.answers: dict[str, tuple[Place, str]] = {}
        #: place of an original -> minor units refunded, and its amount
        self.refunded: Counter[str] = Counter()
        self.amounts: dict[str, int] = {}
        #: How many debits were undone when their id was no longer theirs, by kind.
        self.overtaken: Counter[str] = Counter()

    def rotates(self) -> bool:
        return self.state.seq > 0 and self.random.random() < 0.16

    def batch(self, size_max: int = 12) -> list[str]:
        if not self.state.balances:
            return OPENING
        return [self._line() for _ in range(self.random.randint(1, min(size_max, 12)))]

    def _line(self) -> str:
        draw = self.random
        kind, payer, txid = draw.choice(KINDS), draw.choice(PAYERS), f"T{draw.randint(1, 6)}"
        amount = draw.randint(1, 90)
        if kind == "t":
            return f"t {txid} {payer} @fees {amount} USD"
        if kind == "d":
            return f"d {txid} {payer} far {amount} USD"
        if kind == "h":
            return f"h {txid} {payer} -|{draw.choice((0, 700, 10**9, 10**9))} {amount} USD"
        if kind in "ve":
            return f"{kind} {txid} {payer} - 0 USD"
        if kind in "qki":
            return self._use_hold(kind, txid)
        if kind in "ruj":
            return self._undo(kind)
        if kind == "l" and self.under_way:
            _, (seq, idx), line = draw.choice(self.under_way)
            if line[0] == "q":
                _, txid, payer, other, *_ = line.split(" ")
                return f"l {txid} {payer} {seq}.{idx}|{other.split('|')[1]} 0 USD"
        if kind == "c":
            return self._credit(payer, txid, amount)
        if kind == "z" and self.credits:
            return self._return(kind)
        if kind == "x":
            return self._give_back(payer, txid)
        if kind == "s" and self.state.open and draw.random() < 0.2:
            return f"s {draw.choice(list(self.state.open))} - - 0 -"
        return f"n doctor{draw.randint(0, 9)} - - 0 -"

    def _use_hold(self, kind: str, txid: str) -> str:
        draw, found = self.random, [text for name, text in self.state.holds.items() if name[0] != "#"]
        if not found:
            return "n doctor - - 0 -"
        hold = parse_hold(draw.choice(found))
        field = next(name for name, text in self.state.holds.items() if text == hold.text())
        part = max(1, draw.randint(0, hold.remaining + 5))
        if kind == "i":
            return f"i {txid} {hold.account} {field} {part} USD"
        to = "far" if kind == "q" else "@fees"
        return f"{kind} {txid} {hold.account} {to}|{field}|{draw.choice('fppp')}|{part} {part} USD"

    def _undo(self, kind: str) -> str:
        letter = {"r": "d", "u": "q", "j": "z"}[kind]
        found = [row for row in self.under_way if row[2][0] == letter]
        if self.random.random() < 0.8:
            found = [row for row in found if row[0] < self.state.window - 1]
        if not found:
            return "n doctor - - 0 -"
        _, (seq, idx), line = self.random.choice(found)
        _, txid, account, other, amount, _ = line.split(" ")
        words = other.split("|")
        of = "".join(f"|{word}" for word in words[1 : {"r": 1, "u": 2, "j": 3}[kind]])
        return f"{kind} {txid} {account} {seq}.{idx}.{self.random.choice('ack')}{of} {amount} USD"

    def _credit(self, receiver: str, txid: str, amount: int) -> str:
        """Of a payer elsewhere, who uses an id again: often before the credit of its first use is forgotten here."""
        txid = "T1" if txid < "T4" else "T2"
        window = self.credits[txid][0] if txid in self.credits else -9
        if window > self.state.window - 2 and self.random.random() < 0.7:
            return "n doctor - - 0 -"
        seq = self.random.randint(1, 10**6)
        self.credits[txid] = (self.state.window + 1, f"1.{seq}.3", receiver, amount)
        return f"c 1.{seq} {receiver} 3 {amount} USD"

    def _return(self, kind: str) -> str:
        draw = self.random
        original = draw.choice(list(self.credits))
        _, place, receiver, amount = self.credits[original]
        how = "c"
        if self.past and draw.random() < 0.4:
            original, place, receiver, amount = draw.choice(self.past)
            how = f"s{self.state.window}.{self.refunded[place]}"
        part = draw.choice((amount, amount, max(1, amount // 2)))
        said = f"far|{transfer_field('far', original)}|{place}|{how}|{amount}|{part}"
        return f"{kind} T{draw.randint(1, 6)} {receiver} {said} {part} USD"

    def _give_back(self, payer: str, txid: str) -> str:
        """Of a transfer here."""
        place, _ = self.answers.get(transfer_field(payer, txid), ((0, 0), ""))
        seq, idx = place
        amount = self.amounts.get(f"0.{seq}.{idx}", 7)
        part = self.random.randint(1, amount)
        said = f"{payer}|{transfer_field(payer, txid)}|0.{seq}.{idx}|l|{amount}|{part}"
        return f"x T{self.random.randint(1, 6)} @fees {said} {part} USD"

    def note(self, lines: list[str], outcomes: str) -> None:
        for idx, (line, outcome) in enumerate(zip(lines, outcomes, strict=True)):
            kind, txid, account, other, amount, _ = line.split(" ")
            place, field = (self.state.seq, idx), transfer_field(account, txid)
            if kind in "tdhikqxz" and outcome not in "=!bsn":
                kept = {"h": "H", "i": "H", "x": "R", "z": "R"}.get(kind, "+") if outcome == "+" else outcome
                self.answers[field] = (place, kept)
            if kind in "xz" and outcome == "r" and self.strict:
                _, _, of, how, whole, _ = other.split("|")
                if how[0] == "s":
                    continue  # what was undone since the store was asked still counts
                left = int(whole) - self.refunded[of]
                assert int(amount) > left, f"{amount} of {left} that are left of {of} are too much"
            if outcome != "+":
                continue
            if kind == "c":
                credits = {row[1]: (id_, *row[1:]) for id_, row in self.credits.items()}
                if f"{txid}.{other}" in credits:
                    self.past = [*self.past[-7:], credits[f"{txid}.{other}"]]
            if kind in "dqz":
                self.under_way.append((self.state.window, place, line))
            if kind == "t":
                self.amounts[f"0.{place[0]}.{idx}"] = int(amount)
            if kind in "xz":
                _, _, of, _, whole, _ = other.split("|")
                self.refunded[of] += int(amount)
                self.amounts[of] = int(whole)
            if kind in "ruj":
                self._undone(kind, field, other)
        self.under_way = self.under_way[-40:]
        if self.strict:
            self._check()

    def _undone(self, kind: str, field: str, other: str) -> None:
        seq, idx, decline = other.partition("|")[0].split(".")
        place = (int(seq), int(idx))
        row = next(row for row in self.under_way if row[1] == place)
        self.under_way.remove(row)
        told = self.answers.get(field)
        if told is not None and told[0] == place:
            self.answers[field] = (place, decline)
        elif any(field in window for window in self.state.seen.values()):
            self.overtaken[kind] += 1
        _, _, _, words, amount, _ = row[2].split(" ")
        if kind == "j":
            _, _, of, *_ = words.split("|")
            self.refunded[of] -= int(amount)
            total = f"r.{words.split('|')[1]}"
            if any(credit[1] != of for credit in self.credits.values()) and any(
                total in window for window in self.state.seen.values()
            ):
                self.overtaken["total"] += 1
        if kind == "u":
            hold = self.state.holds.get(words.split("|")[1])
            if hold is not None and int(parse_hold(hold).place.split(".")[0]) > place[0]:
                self.overtaken["hold"] += 1

    def _check(self) -> None:
        for field, (place, outcome) in self.answers.items():
            for window in self.state.seen.values():
                found = TransferRecord.parse(window[field]) if field in window else None
                if found is not None and (found.seq, found.idx) == place:
                    assert found.outcome == outcome, f"G4: {field} of {place} is told {found}, not {outcome}"
        for of, minor in self.refunded.items():
            assert minor <= self.amounts[of], f"{minor} of {self.amounts[of]} have gone back of {of}"
        for name, text in self.state.holds.items():
            if name[0] != "#":
                hold = parse_hold(text)
                assert min(hold.captured, hold.captures, hold.released, hold.remaining) >= 0, text
