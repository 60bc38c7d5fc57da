"""One thing that is wrong with a cluster, or will be."""

from dataclasses import dataclass
from typing import Any

from wallet_engine.admin.diagnosis.mends import Mend


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, and what mends it.

    Of severity `critical` nothing at all can be paid; an `error` endangers money or payments now, a `warning` will, a
    `note` is worth knowing.
    """

    check: str
    severity: str
    what: str
    mend: Mend

    def document(self) -> dict[str, Any]:
        return {
            "check": self.check,
            "severity": self.severity,
            "what": self.what,
            "mend": str(self.mend),
            "commands": list(self.mend.lines),
        }

    @property
    def harmful(self) -> bool:
        """Whether a cluster with it is not healthy."""
        return self.severity in ("critical", "error")
