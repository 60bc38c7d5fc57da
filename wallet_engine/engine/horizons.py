"""The ages beyond which an operation is refused, or a debit needs a look-up first."""

from dataclasses import dataclass

from wallet_engine.domain.limits import ISSUED_AGE_MS_MAX


@dataclass(frozen=True, slots=True)
class Horizons:
    """Milliseconds. Smaller values are safe, but cost repetitions or look-ups.

    issued_age_ms_max   Redis refuses an operation that was issued longer ago: its service was stopped
    meanwhile look_up_age_ms      a debit open for longer is driven only after a look into the receiver's
    journal, because the
                        receiver's partition may have forgotten its credit; None: half of the retention
    """

    issued_age_ms_max: int = ISSUED_AGE_MS_MAX
    look_up_age_ms: int | None = None

    def look_up_age(self, retention_ms: int) -> int:
        return (
            retention_ms // 2 if self.look_up_age_ms is None else min(self.look_up_age_ms, retention_ms // 2)
        )
