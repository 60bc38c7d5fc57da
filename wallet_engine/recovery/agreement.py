"""Finds the last entry that the chains of this copy and another one have in common.

Each round asks one question about all partitions. If no chain differs, one round is enough; otherwise the
number of rounds grows with the logarithm of the difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from wallet_engine.journal.chains import Position
from wallet_engine.journal.copies_wire import HeldAsk, Target, YesNo
from wallet_engine.journal.copy import JournalCopy
from wallet_engine.journal.lookup import Place
from wallet_engine.journal.peers import Peer


@dataclass(slots=True)
class Agreement:
    """For one target: the chains agree up to entry `seq`. `own` is this copy's position when it asked."""

    target: Target
    own: Position
    seq: int = 0
    #: The first entry known to differ, or the one after the end of the shorter chain.
    _differ: int = field(init=False)
    _step: int = field(init=False, default=1)

    def __post_init__(self) -> None:
        self._differ = min(self.own.seq, self.target.seq) + 1

    @property
    def known(self) -> bool:
        """Whether `seq` is final."""
        return self._differ == self.seq + 1

    @property
    def probe(self) -> Place:
        """Which entry to ask for next: backwards from the end in growing steps, then by bisection."""
        back = (self.seq + self._differ) // 2 if self.seq else max(1, self._differ - self._step)
        return self.target.partition, back

    def told(self, *, same: bool) -> None:
        """Whether the other copy has that entry."""
        _, seq = self.probe
        if same:
            self.seq = seq
        else:
            self._differ, self._step = seq, 2 * self._step

    @property
    def surplus(self) -> bool:
        """Whether this copy has entries that the target's chain lacks, except those of the target's epoch."""
        if self.own.seq <= self.seq:
            return False
        return self.seq < self.target.seq or self.own.epoch < self.target.epoch


async def agree(copy: JournalCopy, source: Peer, targets: Sequence[Target]) -> list[Agreement]:
    """How far the chains of this copy and `source` agree, per target. Raises OSError, `WalletError`."""
    agreements = [Agreement(target, copy.writer.position(target.partition)) for target in targets]
    ends = await copy.held([(target.partition, target.seq, target.nonce) for target in targets])
    for agreement, held in zip(agreements, ends, strict=True):
        if held:  # no question needed
            agreement.seq = agreement.target.seq
    while unknown := [agreement for agreement in agreements if not agreement.known]:
        places = [agreement.probe for agreement in unknown]
        nonces = await copy.nonces(places)
        if len(nonces) < len(places):
            raise OSError("entries were set aside while they were compared with those of another copy")
        asks = [(*place, nonces[place]) for place in places]
        answers = (await source.ask(HeldAsk(asks), YesNo)).answers
        if len(answers) != len(asks):
            raise OSError(f"journal {source.journal_id} answered {len(answers)} of {len(asks)} questions")
        for agreement, same in zip(unknown, answers, strict=True):
            agreement.told(same=same)
    return agreements
