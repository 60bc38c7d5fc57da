"""The state of one partition in plain Python, and the exact image of it that Redis must hold (G6)."""

import hashlib
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from wallet_engine.domain.entry import ZERO_NONCE
from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.ids import TRANSIT, is_system
from wallet_engine.domain.key_names import (
    BALANCE,
    DUE,
    FLAGS,
    GROUP,
    HELD,
    HOLD,
    META,
    META_FOLDED,
    NOTED,
    OPEN,
    PENDING,
    SEEN,
)
from wallet_engine.domain.limits import AMOUNT_MINOR_MAX, STRIPE_LIMB_MINOR

#: Key without its hash tag (`redis_store/layout.py` lists them all) -> its fields as text. The fields of
#: `open` are its members, the values their scores. A key without fields is not in the image, because Redis
#: keeps no empty hash. Epoch, owner and state of `meta` are not in the image, because the journal does not
#: determine them.
RedisImage = dict[str, dict[str, str]]

#: A field of `meta` that can be newer in Redis than in the newest entry, because it grows without writes.
WITNESSED: Final = "witnessed_s"

ACTIVE: Final = "A"
FROZEN: Final = "F"
CLOSED: Final = "C"
#: Suffix of the field in a balance hash that counts what a system account has carried.
CARRIED: Final = "+"


class Flags:
    """Status of an account, and its overdraft limits and maximum balances by currency, in order of setting.

    Minor units. A limit that was ever changed stays in the map, even as 0.
    """

    __slots__ = ("closing", "limits", "most", "status")

    def __init__(self) -> None:
        self.status = ACTIVE
        #: While a close keeps the account frozen: the status before, and the seq of the freezing entry, as
        #: text.
        self.closing: tuple[str, str] | None = None
        self.limits: dict[str, int] = {}
        self.most: dict[str, int] = {}

    def text(self) -> str:
        """The value in the hash `flags`: `F USD=500 USD<9000`; during a close `F A=17 USD=500`."""
        closing = "" if self.closing is None else " {}={}".format(*self.closing)
        limits = "".join(f" {currency}={limit}" for currency, limit in self.limits.items())
        most = "".join(f" {currency}<{minor}" for currency, minor in self.most.items())
        return f"{self.status}{closing}{limits}{most}"

    @classmethod
    def parse(cls, text: str) -> "Flags":
        flags = cls()
        flags.status, *limits = text.split(" ")
        for item in limits:
            name, _, value = item.partition("=")
            if "<" in item:
                name, _, value = item.partition("<")
                flags.most[name] = int(value)
            elif name in (ACTIVE, FROZEN):
                flags.closing = (name, value)
            else:
                flags.limits[name] = int(value)
        return flags


class PartitionState:
    """The result of all entries of one partition. A new object is an empty partition."""

    __slots__ = (
        "balances",
        "carried",
        "clock",
        "due",
        "epoch",
        "flags",
        "groups",
        "held",
        "holds",
        "nonce",
        "noted",
        "open",
        "pending",
        "seen",
        "seq",
        "window",
        "witnessed_s",
    )

    def __init__(self) -> None:
        self.seq = 0
        self.nonce = ZERO_NONCE
        self.epoch = 0
        #: Unix milliseconds of the last entry.
        self.clock = 0
        self.window = 1
        #: Seconds of the window that had been measured as passed by the last entry.
        self.witnessed_s = 0
        #: currency -> account -> minor units
        self.balances: dict[str, dict[str, int]] = {}
        #: currency -> system account -> how many `STRIPE_LIMB_MINOR` of its balance are kept in a separate
        #: field
        self.carried: dict[str, dict[str, int]] = {}
        #: account -> flags; an account without any is active and has no limit
        self.flags: dict[str, Flags] = {}
        #: window -> field -> record, for this window and the one before, in the format of the hash `seen`
        self.seen: dict[int, dict[str, str]] = {0: {}, 1: {}}
        #: seq of an entry of this partition with unsettled outgoing money -> idx of its operations refunded
        #: so far
        self.open: dict[int, set[int]] = {}
        #: currency -> account -> minor units: `held` is its own money set aside, `pending` is money coming in
        self.held: dict[str, dict[str, int]] = {}
        self.pending: dict[str, dict[str, int]] = {}
        #: field of (account, id) -> open hold, and Unix milliseconds of its expiry
        self.holds: dict[str, str] = {}
        self.due: dict[str, int] = {}
        #: field of (first payer, id) -> group under way
        self.groups: dict[str, str] = {}
        #: account -> seq.idx of the operation whose note holds its metadata
        self.noted: dict[str, str] = {}

    def __repr__(self) -> str:
        return (
            f"<PartitionState seq={self.seq} epoch={self.epoch} window={self.window} "
            f"currencies={','.join(self.currencies)} open={len(self.open)}>"
        )

    @property
    def currencies(self) -> list[str]:
        """The currencies that have a balance, sorted."""
        return sorted(self.balances)

    def balance(self, account: str, currency: str) -> int | None:
        """Minor units; None when the account is not known in the currency (a system account always is)."""
        unknown = 0 if is_system(account) else None
        return self.balances.get(currency, {}).get(account, unknown)

    def limit(self, account: str, currency: str) -> int:
        """Overdraft limit of an ordinary account in minor units."""
        flags = self.flags.get(account)
        return 0 if flags is None else flags.limits.get(currency, 0)

    def most(self, account: str, currency: str) -> int | None:
        """Maximum balance of an ordinary account in minor units; held and pending money counts."""
        flags = self.flags.get(account)
        return None if flags is None else flags.most.get(currency)

    def status(self, account: str) -> str:
        """`A`, `F` or `C`."""
        flags = self.flags.get(account)
        return ACTIVE if flags is None else flags.status

    def fields(self, currency: str) -> Mapping[str, int]:
        """The fields of the currency's hash."""
        book = self.balances[currency]
        carried = self.carried.get(currency)
        if not carried:
            return book
        parts = {account: book[account] - STRIPE_LIMB_MINOR * limbs for account, limbs in carried.items()}
        return ChainMap(parts, {account + CARRIED: limbs for account, limbs in carried.items()}, book)

    def read_fields(self, currency: str, fields: Mapping[str, str]) -> None:
        """The inverse of `fields`, from the text that Redis holds."""
        book = self.balances[currency] = {name: int(value) for name, value in fields.items()}
        for name in [name for name in book if name.endswith(CARRIED)]:
            account, limbs = name.removesuffix(CARRIED), book.pop(name)
            self.carried.setdefault(currency, {})[account] = limbs
            book[account] += STRIPE_LIMB_MINOR * limbs

    def in_transit(self) -> dict[str, int]:
        """Currency -> balance of this partition's stripe of `@transit`."""
        return {currency: book.get(TRANSIT, 0) for currency, book in self.balances.items()}

    def books(self) -> dict[str, int]:
        """Currency -> sum of available, held and pending money, system accounts included.

        Every sum is 0 (G2).
        """
        return {
            currency: sum(
                sum(books.get(currency, {}).values()) for books in (self.balances, self.held, self.pending)
            )
            for currency in self.balances.keys() | self.held.keys() | self.pending.keys()
        }

    def check(self) -> None:
        """Check G2, G3 and G12 for every balance. Raises `Corruption`. Costs a pass over all accounts."""
        for currency, total in self.books().items():
            if total:
                raise Corruption(f"books of {currency} sum to {total} after entry {self.seq}")
        for currency, book in self.balances.items():
            for account, minor in book.items():
                self.check_balance(account, currency, minor)

    def check_balance(self, account: str, currency: str, minor: int, *, fell: bool = False) -> None:
        """Check G12 and G3 for one balance. Raises `Corruption`.

        The balance of a system account has no bound, but each of its fields has. A limit may have been
        lowered below the balance: then the balance may stay under it, but must not have fallen (`fell`).
        """
        part = minor - STRIPE_LIMB_MINOR * self.carried.get(currency, {}).get(account, 0)
        if not -AMOUNT_MINOR_MAX <= part <= AMOUNT_MINOR_MAX:
            raise Corruption(f"balance of {account} leaves the bounds: {minor} {currency}")
        if minor >= 0 or is_system(account) or minor >= -self.limit(account, currency):
            return
        flags = self.flags.get(account)
        if fell or flags is None or currency not in flags.limits:
            raise Corruption(f"balance of {account} is under its limit: {minor} {currency}")


class View(NamedTuple):
    """One key as the state holds it: its fields by name, and how a value becomes the text in Redis."""

    fields: Mapping[str, Any]
    text: Callable[[Any], str]


def views(state: PartitionState) -> dict[str, View]:
    """Key without its tag -> view, for every key that has fields, except `meta`. Reads no single field."""
    found = {
        FLAGS: View(state.flags, Flags.text),
        OPEN: View(_open_members(state), str),
        **{f"{SEEN}:{window}": View(records, str) for window, records in state.seen.items()},
        **{f"{BALANCE}:{currency}": View(state.fields(currency), str) for currency in state.balances},
        **{f"{HELD}:{currency}": View(book, str) for currency, book in state.held.items()},
        **{f"{PENDING}:{currency}": View(book, str) for currency, book in state.pending.items()},
        HOLD: View(state.holds, str),
        DUE: View(state.due, str),
        GROUP: View(state.groups, str),
        NOTED: View(state.noted, str),
    }
    return {key: view for key, view in found.items() if view.fields}


def meta_fields(state: PartitionState) -> dict[str, str]:
    """The fields of `meta` that the journal determines."""
    flagged = "1" if state.flags else None
    if any(flags.most for flags in state.flags.values()):
        flagged = "2"
    values = (state.seq, state.nonce, state.clock, state.window, ",".join(state.currencies), flagged)
    return {name: str(value) for name, value in zip(META_FOLDED, values, strict=True) if value is not None}


def redis_image(state: PartitionState) -> RedisImage:
    """What Redis must hold for the partition, field for field."""
    image: RedisImage = {META: meta_fields(state)}
    if state.witnessed_s:
        image[META][WITNESSED] = str(state.witnessed_s)
    for key, (fields, text) in views(state).items():
        image[key] = {name: text(value) for name, value in fields.items()}
    return image


def _open_members(state: PartitionState) -> dict[str, int]:
    members: dict[str, int] = {}
    for seq, refunded in state.open.items():
        members[str(seq)] = seq
        members.update((f"{seq}.{idx}", seq) for idx in refunded)
    return members


def state_of_image(image: RedisImage, epoch: int = 0) -> PartitionState:
    """The state that `redis_image` was made of, except for the epoch, which an image does not hold.

    Raises `Corruption` for a key that it does not know.
    """
    state = PartitionState()
    meta = image[META]
    state.seq, state.nonce, state.epoch = int(meta["seq"]), meta["nonce"], epoch
    state.clock, state.window = int(meta["clock"]), int(meta["window"])
    state.witnessed_s = int(meta.get(WITNESSED, 0))
    state.seen = {number: {} for number in (state.window - 1, state.window)}
    for key, fields in image.items():
        name, _, suffix = key.partition(":")
        match name:
            case "meta":
                pass
            case "flags":
                state.flags = {account: Flags.parse(text) for account, text in fields.items()}
            case "open":
                for member in fields:
                    seq, _, idx = member.partition(".")
                    refunded = state.open.setdefault(int(seq), set())
                    if idx:
                        refunded.add(int(idx))
            case "seen":
                state.seen[int(suffix)] = dict(fields)
            case "balance":
                state.read_fields(suffix, fields)
            case "held":
                state.held[suffix] = _numbers(fields)
            case "pending":
                state.pending[suffix] = _numbers(fields)
            case "hold":
                state.holds = dict(fields)
            case "due":
                state.due = _numbers(fields)
            case "group":
                state.groups = dict(fields)
            case "noted":
                state.noted = dict(fields)
            case _:
                raise Corruption(f"an image has a key {key!r}, which this version does not know")
    return state


def _numbers(fields: Mapping[str, str]) -> dict[str, int]:
    return {name: int(text) for name, text in fields.items()}


def image_lines(image: RedisImage) -> Iterator[str]:
    """The image in canonical text: `key TAB field TAB value NEWLINE`, sorted."""
    for key in sorted(image):
        for field, value in sorted(image[key].items()):
            yield f"{key}\t{field}\t{value}\n"


def image_digest(image: RedisImage) -> str:
    """SHA-256 of the canonical text, in hex: equal images have equal digests."""
    digest = hashlib.sha256()
    for line in image_lines(image):
        digest.update(line.encode())
    return digest.hexdigest()
