"""Readiness (G14): unready when no transfer is possible, degraded when some partitions stop, always with a reason."""

from wallet_engine.engine.conditions import Condition, Report
from wallet_engine.service.api import ConditionView
from wallet_engine.service.readiness import PARTITIONS_NAMED_MAX, readiness_of


def test_ready_without_conditions() -> None:
    found = readiness_of(16, 16, [])
    assert (found.status, found.reason, found.conditions, found.ready) == ("ready", "ok", (), True)


def test_degraded_while_some_partitions_pay() -> None:
    found = readiness_of(
        16, 13, [Report(Condition.FULL, (3, 4), "9 entries"), Report(Condition.MOVING, (7,), "state moving")]
    )
    assert found.ready
    assert found.status == "degraded"
    assert found.reason == (
        "3 of 16 partitions take no transfers: "
        "full (partitions 3, 4): 9 entries; moving (partitions 7): state moving"
    )
    assert found.conditions == (
        ConditionView("full", (3, 4), "9 entries"),
        ConditionView("moving", (7,), "state moving"),
    )


def test_unready_when_no_partition_pays() -> None:
    found = readiness_of(2, 0, [Report(Condition.REFUSED, (0, 1), "MISCONF")])
    assert not found.ready
    assert (found.status, found.reason) == ("unready", "refused (partitions 0, 1): MISCONF")


def test_unready_when_the_service_itself_cannot_pay() -> None:
    found = readiness_of(16, 0, [Report(Condition.NO_QUORUM, None, "1 of 2 journal copies reachable")])
    assert not found.ready
    assert found.reason == "no_quorum: 1 of 2 journal copies reachable"


def test_a_reason_names_a_few_partitions_and_the_conditions_all() -> None:
    every = tuple(range(PARTITIONS_NAMED_MAX + 2))
    found = readiness_of(len(every) + 1, 1, [Report(Condition.RECOVERING, every, "state recovering")])
    assert "0, 1, 2, 3, 4, 5, 6, 7 and 2 more" in found.reason
    assert found.conditions[0].partitions == every
