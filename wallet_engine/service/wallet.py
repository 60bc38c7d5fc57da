"""The wallet on a real cluster: its resources together."""

from typing import TYPE_CHECKING

from wallet_engine.engine.conditions import Condition
from wallet_engine.engine.engine import Engine
from wallet_engine.engine.reads import Reader
from wallet_engine.service.accounts import Accounts
from wallet_engine.service.api import Readiness
from wallet_engine.service.groups import Groups
from wallet_engine.service.holds import Holds
from wallet_engine.service.lookups import LookUps
from wallet_engine.service.originals import ForgottenOriginals
from wallet_engine.service.readiness import readiness_of
from wallet_engine.service.refunds import Refunds
from wallet_engine.service.repeats import Repeats
from wallet_engine.service.transfers import Transfers
from wallet_engine.telemetry.metrics import READY_VALUES

if TYPE_CHECKING:
    from wallet_engine.history.originals import Originals


class ClusterWallet:
    """Implements `service.api.Wallet`."""

    def __init__(self, engine: Engine, reader: Reader, originals: "Originals | None" = None) -> None:
        """`originals`: where to look for transfers that the partitions no longer remember."""
        self._engine = engine
        accounts, look_ups, repeats = (
            Accounts(engine, reader),
            LookUps(engine, reader),
            Repeats(engine, reader),
        )
        self._transfers = transfers = Transfers(engine, repeats)
        self.open_account = accounts.open_account
        self.set_limits = accounts.set_limits
        self.account = accounts.account
        self.balance = accounts.balance
        self.newest = accounts.newest
        self.set_flags = accounts.set_flags
        self.transfer = transfers.transfer
        self.begin_transfer = transfers.begin_transfer
        self.transfer_many = transfers.transfer_many
        self.find_transfer, self.request_of = look_ups.find_transfer, look_ups.request_of
        forgotten = ForgottenOriginals(engine, reader, originals)
        refunds = Refunds(engine, reader, look_ups, repeats, forgotten)
        self.original, self.refund = refunds.original, refunds.refund
        groups = Groups(engine, reader, transfers)
        self.transfer_group, self.find_group = groups.transfer_group, groups.find_group
        held = Holds(engine, reader, repeats)
        self.place_hold, self.increase_hold = held.place_hold, held.increase_hold
        self.capture_hold, self.void_hold, self.hold = held.capture_hold, held.void_hold, held.hold

    def __repr__(self) -> str:
        return f"<ClusterWallet in_flight={self.in_flight} {self._engine!r}>"

    @property
    def in_flight(self) -> int:
        """Transfers that were accepted and have not ended."""
        return self._transfers.in_flight

    def readiness(self) -> Readiness:
        """See `service.readiness`."""
        return readiness_of(len(self._engine.cluster.accumulators), *self._engine.lookout.report())

    def readings(self) -> tuple[int, dict[str, int]]:
        """Readiness as numbers: see `Metrics.observe_readiness`."""
        found, count = self.readiness(), len(self._engine.cluster.accumulators)
        stopped = dict.fromkeys(map(str, Condition), 0)
        stopped |= {
            c.condition: count if c.partitions is None else len(c.partitions) for c in found.conditions
        }
        return READY_VALUES[found.status], stopped
