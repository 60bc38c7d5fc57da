"""One thing that is wrong with a cluster, or soon will be."""

from dataclasses import dataclass
from typing import Any

from wallet_engine.admin.diagnosis.mends import Mend


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, and how to mend it.

    Severities: `critical`: nothing can be paid. `error`: money or payments are in danger now. `warning`: they will
    be. `note`: worth knowing.
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
        """Whether the finding makes the cluster unhealthy."""
        return self.severity in ("critical", "error")
