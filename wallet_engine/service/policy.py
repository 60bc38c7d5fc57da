"""The authorization policy: decides every leg of a call and every element of a batch before anything happens.

    payer           moves money from accounts of its patterns to ordinary ones; reads them and their transfers
    treasury        the same, and also from and to the system accounts that it names
    account-admin   opens, flags and reads accounts of its patterns
    bank            nothing yet
    auditor         reads everything
    metrics         reads `/metrics`
    admin           everything

Grants only narrow. An auditor whose key has patterns reads the accounts that fit them. An admin whose key has patterns
or amounts may pay, manage and read within them, like a treasury and an account-admin.

Only `admin` without them may use a system account that the configuration does not list. Without keys every caller is
`ANYONE`.
"""

import copy
import re
from collections.abc import Sequence
from operator import itemgetter
from typing import Final, NamedTuple, NoReturn

from wallet_engine.domain.errors import Forbidden
from wallet_engine.domain.ids import is_system
from wallet_engine.domain.money import format_amount
from wallet_engine.domain.patterns import compile_patterns
from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.routing.api_keys import ApiKey, Role
from wallet_engine.service.shares import Share

SYSTEM: Final = "@"
_ANY_ORDINARY: Final = "[A-Za-z0-9._:-]+"
_NOBODY: Final = "(?!)"
#: Stands for any ordinary account.
_SOMEBODY: Final = "somebody"
_payer, _receiver = itemgetter(0), itemgetter(1)


class Rights(NamedTuple):
    """What a role may do."""

    everything: bool = False
    pays: bool = False
    #: May pay from and to system accounts.
    uses_system: bool = False
    manages: bool = False
    reads: bool = False
    reads_all: bool = False
    sees_metrics: bool = False


RIGHTS: Final[dict[str, Rights]] = {
    Role.PAYER: Rights(pays=True, reads=True),
    Role.TREASURY: Rights(pays=True, uses_system=True, reads=True),
    Role.ACCOUNT_ADMIN: Rights(manages=True, reads=True),
    Role.BANK: Rights(),
    Role.AUDITOR: Rights(reads=True, reads_all=True, sees_metrics=True),
    Role.METRICS: Rights(sees_metrics=True),
    Role.ADMIN: Rights(everything=True),
}


#: What `auditor` and `admin` may do whose keys are restricted.
_RESTRICTED: Final[dict[str, Rights]] = {
    Role.AUDITOR: Rights(reads=True, sees_metrics=True),
    Role.ADMIN: Rights(pays=True, uses_system=True, manages=True, reads=True, sees_metrics=True),
}


def _rights_of(key: ApiKey) -> Rights:
    """Without a known role: none."""
    rights = RIGHTS.get(key.role, Rights())
    narrowed = key.accounts or (key.amount_max and key.role == Role.ADMIN)
    return _RESTRICTED.get(key.role, rights) if narrowed else rights


class Principal:
    """A caller. The checks raise `Forbidden` for what it may not do."""

    __slots__ = (
        "_amount_max",
        "_key",
        "_payers_match",
        "_reach",
        "_reach_match",
        "_receivers_match",
        "_rights",
        "_sides_match",
        "everything",
        "id",
        "share",
    )

    def __init__(self, key: ApiKey, system_accounts: tuple[str, ...], share: Share | None = None) -> None:
        """The caller with this key, in a cluster whose configuration lists these system accounts."""
        self.share = share or Share(key.rate, key.in_flight)
        rights = self._rights = _rights_of(key)
        self._key = key
        #: The id of the key; empty for `ANYONE`.
        self.id = key.id
        self.everything = rights.everything
        self._amount_max = key.amount_max
        reach = compile_patterns(key.accounts) if key.accounts else _ANY_ORDINARY
        receivers = _ANY_ORDINARY
        if rights.uses_system:
            listed = rf"(?={compile_patterns(system_accounts)}(?: |\Z))"
            system = listed + (compile_patterns(key.system) if key.system else SYSTEM + _ANY_ORDINARY)
            reach, receivers = f"(?:{reach}|{system})", f"(?:{receivers}|{system})"
        self._reach = reach
        self._reach_match = re.compile(rf"{reach}\Z").match
        if not rights.pays:
            reach = receivers = _NOBODY
        self._sides_match = re.compile(rf"{reach} {receivers}\Z").match
        # These match many names, each followed by a space.
        self._payers_match = re.compile(rf"(?>{reach} )*+\Z").match
        self._receivers_match = re.compile(rf"(?>{receivers} )*+\Z").match

    def with_share(self, share: Share) -> "Principal":
        """A principal with the same rights and another share."""
        other = copy.copy(self)
        other.share = share
        return other

    def __repr__(self) -> str:
        return f"<Principal {self.id or 'anyone'} {self._key.role}>"

    @property
    def role(self) -> str:
        return self._key.role

    def check_transfer(self, command: TransferCommand) -> None:
        """Whether it may make this transfer."""
        if self.everything:
            return
        if not self._sides_match(f"{command[0]} {command[1]}"):
            self._refuse_sides(command)
        if self._amount_max:
            self._check_amount(command)

    def check_pays(self) -> None:
        """Whether it may pay at all."""
        if not (self.everything or self._rights.pays):
            raise self._forbidden("pay", "payer, treasury or admin")

    def check_sides(
        self, payer: str, receiver: str | None, minor: int | None = None, currency: str = ""
    ) -> None:
        """Whether it may pay from this account, to this receiver if known, and this amount if known."""
        if self.everything:
            return
        command = TransferCommand(payer, receiver or _SOMEBODY, minor or 0, currency, "")
        if not self._sides_match(f"{command[0]} {command[1]}"):
            self._refuse_sides(command)
        if self._amount_max and minor is not None:
            self._check_amount(command)

    def check_gives_back(self, *receivers: str) -> None:
        """Whether it may refund what one of these accounts received. The error names none: they may be others'."""
        if not (self.everything or any(self._sides_match(f"{each} {_SOMEBODY}") for each in receivers)):
            raise self._forbidden("refund this transfer", "--accounts for the account that received it")

    def check_transfers(self, commands: Sequence[TransferCommand]) -> None:
        """Whether it may make all of them; the error names the first forbidden one."""
        if self.everything:
            return
        # Checked together: a check of each would cost a batch a twentieth of its time.
        payers, receivers = " ".join(map(_payer, commands)), " ".join(map(_receiver, commands))
        only_ordinary = SYSTEM not in receivers and self._rights.pays
        if (
            not self._amount_max
            and self._payers_match(f"{payers} ")
            and (only_ordinary or self._receivers_match(f"{receivers} "))
        ):
            return
        for index, command in enumerate(commands):
            try:
                self.check_transfer(command)
            except Forbidden as error:
                raise Forbidden(f"transfers[{index}]: {error}") from None

    def check_reads(self, account_id: str) -> None:
        """Whether it may read this account and its transfers."""
        if not self.may_read(account_id):
            raise self._forbidden(f"read {account_id}", self._reader())

    def may_read(self, account_id: str) -> bool:
        rights = self._rights
        return (
            rights.everything
            or rights.reads_all
            or (rights.reads and self._reach_match(account_id) is not None)
        )

    @property
    def readable(self) -> str | None:
        """The accounts that it may read, as a regular expression for PostgreSQL too; None: all."""
        rights = self._rights
        if rights.everything or rights.reads_all:
            return None
        return self._reach if rights.reads else _NOBODY

    def check_reads_some(self) -> None:
        """Whether it may read any account."""
        rights = self._rights
        if not (rights.everything or rights.reads_all or rights.reads):
            raise self._forbidden("read transfers", "payer, auditor or admin")

    def check_manages(self, account_id: str) -> None:
        """Whether it may open, patch, freeze, unfreeze and close this account."""
        rights = self._rights
        if not (rights.everything or (rights.manages and self._reach_match(account_id))):
            raise self._forbidden(f"open, freeze or close {account_id}", "account-admin or admin")

    def check_reads_all(self, what: str) -> None:
        """Whether it may read the data of every account."""
        if not (self._rights.everything or self._rights.reads_all):
            raise self._forbidden(what, self._reader())

    def check_everything(self, what: str) -> None:
        """Whether it may do what only `admin` may."""
        if not self._rights.everything:
            raise self._forbidden(what, "admin" if self._key.role != Role.ADMIN else self._reader())

    def check_metrics(self) -> None:
        if not (self._rights.everything or self._rights.sees_metrics):
            raise self._forbidden("read /metrics", "metrics, auditor or admin")

    def _reader(self) -> str:
        """What a caller needs who may not read something."""
        restricted = self._key.role in _RESTRICTED
        return "the same role without --accounts and --amount-max" if restricted else "auditor or admin"

    def _check_amount(self, command: TransferCommand) -> None:
        minor, currency = command[2], command[3]
        most = self._amount_max.get(currency)
        if most is None or minor > most:
            limits = ", ".join(f"{format_amount(m, c)}:{c}" for c, m in sorted(self._amount_max.items()))
            raise self._forbidden(
                f"move {format_amount(minor, currency)} {currency}", f"--amount-max {limits}"
            )

    def _refuse_sides(self, command: TransferCommand) -> NoReturn:
        payer, receiver = command[0], command[1]
        if not self._rights.pays:
            raise self._forbidden(f"pay from {payer}", "payer, treasury or admin")
        if not self._sides_match(f"{payer} {_SOMEBODY}"):
            raise self._forbidden(f"pay from {payer}", _grant_for(payer))
        raise self._forbidden(f"pay to {receiver}", _grant_for(receiver))

    def _forbidden(self, what: str, grant: str) -> Forbidden:
        key = self._key
        reach = f", accounts {' '.join(key.accounts)}" if key.accounts else ""
        return Forbidden(f"key {key.id} ({key.role}{reach}) may not {what}: it needs {grant}")


def _grant_for(account_id: str) -> str:
    if is_system(account_id):
        return "the role treasury and --system for it, and the setting system-accounts must list it; or admin"
    return "--accounts for it"


#: Every caller, if no keys are required.
ANYONE: Final = Principal(ApiKey(id="", name="anyone", role=Role.ADMIN), ())
