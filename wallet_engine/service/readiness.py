"""What the conditions of an engine mean for the load balancer that sends callers to it.

Unready: the service itself cannot pay, or no partition can; send callers to another one. Degraded: some partitions take
no transfers. Another service would refuse the same ones, and the other partitions must not stop for them (G9): callers
are still sent here, and the answer says what is wrong (G14). Ready: every partition takes transfers.
"""

from collections.abc import Sequence
from typing import Final

from wallet_engine.engine.conditions import Report
from wallet_engine.service.api import ConditionView, Readiness

#: Partitions named in a reason; the conditions name all.
PARTITIONS_NAMED_MAX: Final = 8


def readiness_of(partitions: int, paying: int, reports: Sequence[Report]) -> Readiness:
    """The readiness if `paying` of the partitions take transfers; `reports` say why the others do not."""
    if not reports:
        return Readiness("ready", "ok")
    views = tuple(ConditionView(r.condition.value, r.partitions, r.detail) for r in reports)
    reason = "; ".join(_text(view) for view in views)
    if paying:
        return Readiness(
            "degraded", f"{partitions - paying} of {partitions} partitions take no transfers: {reason}", views
        )
    return Readiness("unready", reason, views)


def _text(view: ConditionView) -> str:
    if view.partitions is None:
        return f"{view.condition}: {view.detail}"
    named = ", ".join(map(str, view.partitions[:PARTITIONS_NAMED_MAX]))
    more = len(view.partitions) - PARTITIONS_NAMED_MAX
    return f"{view.condition} (partitions {named}{f' and {more} more' if more > 0 else ''}): {view.detail}"
