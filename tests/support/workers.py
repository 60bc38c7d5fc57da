"""`pytest -n2`: who runs what, on which ports, and that nothing which was started stays. A plugin of the root conftest.

Tests on real processes wait more than they compute. Those that share what they start, or kill it, are one piece: one
worker runs it, a test after the other, while the other one takes other pieces.
"""

import contextlib
import os
import time
import uuid
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from support import advice, runbooks
from xdist.scheduler import LoadScopeScheduling

from wallet_engine.dev.ports import PORT_MIN

#: The longest pieces first: what is left for the end is short.
FIRST = "tests/integration/"
#: Folders whose tests share what they start. Of the others each file is a piece of its own.
TOGETHER = ("tests/lua/",)
#: Files of `tests/faults` that share a cluster of its conftest: another worker would start it a second time.
ON_REPLICATED = ("failover", "fault_list", "isolated_service", "overload")
ON_UNREPLICATED = ("holds_killed", "journal_stopped", "redis_and_others_killed", "redis_refuses", "sweeper")
PIECES = {
    f"tests/faults/test_{name}.py": piece
    for piece, names in (("replicated", ON_REPLICATED), ("unreplicated", ON_UNREPLICATED))
    for name in names
}
LEFT_S_MAX = 10.0

WORKER = os.environ.get("PYTEST_XDIST_WORKER")  # gw0, gw1 …
if WORKER:
    # Ports of its own: no other worker takes the port of a process that is just being started again.
    first_port = PORT_MIN + 1000 * (int(WORKER.removeprefix("gw")) % 10)
    os.environ["WALLET_DEV_PORTS"] = f"{first_port}-{first_port + 999}"
else:
    # Stands in the environment of all that this run starts, and of whatever that starts. Without WALLET_ in front it
    # stays where settings are taken away.
    os.environ["TEST_RUN_ID"] = uuid.uuid4().hex


class InPieces(LoadScopeScheduling):
    """Whoever has nothing left takes the next piece."""

    def _split_scope(self, nodeid: str) -> str:
        path, _, _ = nodeid.partition("::")
        return PIECES.get(path) or next((folder for folder in TOGETHER if path.startswith(folder)), path)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(FIRST))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A test that is to run commands of `doctor`, or of a runbook, has run them."""
    advice.ran.clear()
    runbooks.ran.clear()
    with runbooks.noted():
        yield
    test = item.nodeid.removeprefix("tests/")
    missed = sorted(advice.due(test) - advice.ran) or runbooks.missed(test)
    assert not missed, f"not run: {missed}"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> InPieces:
    config.option.loadscopereorder = False  # as collected: the longest pieces come first
    return InPieces(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """After Ctrl-C pytest-xdist kills a worker that takes long to end; what that one started is killed here.

    A run that was not interrupted fails when it leaves anything.
    """
    yield
    if WORKER:
        return
    deadline = time.monotonic() + LEFT_S_MAX
    while (left := _left_over()) and session.exitstatus == 0 and time.monotonic() < deadline:
        time.sleep(0.1)  # what was killed last is still ending
    if left and session.exitstatus == 0:
        print(f"\nstill running when all tests had ended: {left}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _left_over() -> list[psutil.Process]:
    """Supervisors first: they start again what is killed before them."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("TEST_RUN_ID") == os.environ["TEST_RUN_ID"]:
                found.append(process)
    return sorted(found, key=psutil.Process.create_time)
