"""`pytest -n2`: which worker runs which tests, on which ports; and no process is left. A plugin of the root conftest.

Tests on real processes wait more than they compute. Tests that share processes, or kill them, are one piece: one worker
runs it, test after test, while the other worker takes other pieces.
"""

import contextlib
import gc
import os
import time
import uuid
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from support import advice, runbooks
from support.shared import SHARED
from xdist.scheduler import LoadScopeScheduling

from wallet_engine.dev.ports import PORT_MIN
from wallet_engine.telemetry.lean import uncollected

#: Files that share a cluster are one piece: another worker would start it a second time. These are the longest
#: pieces, so they come first; then tests that compute, beside tests that wait for processes.
PIECES = {
    "unreplicated": (
        "tests/faults/",
        "groups_killed holds_killed journal_stopped limits_rebuilt redis_and_others_killed redis_refuses "
        "refunds_killed sweeper",
    ),
    "replicated": ("tests/faults/", "failover fault_list isolated_service more_than_transfers overload"),
    "api_cluster": (
        "tests/integration/",
        "admin_accounts admin_holds api_accounts api_balance api_batch api_books api_find_transfer api_groups "
        "api_holds api_limits api_refunds api_sides api_transfer api_transfer_concurrency api_transfer_limits client "
        "rolling_restart terminals tracing verify_under_traffic",
    ),
}
PIECE_OF = {
    f"{folder}test_{name}.py": piece for piece, (folder, names) in PIECES.items() for name in names.split()
}
FIRST = (*PIECES, "tests/simulation/", "tests/integration/", "tests/faults/")
#: Folders whose tests share processes. In other folders each file is a piece of its own.
TOGETHER = ("tests/lua/",)
LEFT_S_MAX = 10.0

# What a person has set for a cluster, a database or a proxy of theirs, as README tells them, is not for these tests.
for name in [*os.environ]:
    if (
        name.startswith(("WALLET_", "PG", "OTEL_"))
        or name.lower().endswith("_proxy")
        or name in ("FORCE_COLOR", "NO_COLOR", "COLUMNS")
    ):
        del os.environ[name]

WORKER = os.environ.get("PYTEST_XDIST_WORKER")  # gw0, gw1 …
if WORKER:
    # Each worker has its own ports: no other worker takes the port of a process that is being restarted.
    first_port = PORT_MIN + 1000 * (int(WORKER.removeprefix("gw")) % 10)
    os.environ["WALLET_DEV_PORTS"] = f"{first_port}-{first_port + 999}"
else:
    # Every process that this run starts, directly or not, has it in its environment. Without WALLET_ in front it stays
    # when settings are removed.
    os.environ["TEST_RUN_ID"] = uuid.uuid4().hex


class InPieces(LoadScopeScheduling):
    """A worker that has no tests left takes the next piece."""

    def _split_scope(self, nodeid: str) -> str:
        return _piece(nodeid)


def _piece(nodeid: str) -> str:
    path, _, _ = nodeid.partition("::")
    return PIECE_OF.get(path) or next((folder for folder in TOGETHER if path.startswith(folder)), path)


def _turn(item: pytest.Item) -> int:
    piece = _piece(item.nodeid)
    return next((turn for turn, first in enumerate(FIRST) if piece.startswith(first)), len(FIRST))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        used = set(PIECES) & set(getattr(item, "fixturenames", ()))
        if used and _piece(item.nodeid) not in PIECES:
            raise pytest.UsageError(
                f"{item.nodeid} uses {', '.join(used)}: name its file in PIECES of {__name__}"
            )
    items.sort(key=_turn)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collected tests are many objects, and they stay: no garbage collection looks at them, now or in the tests."""
    with uncollected():
        yield
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Shared resources end when no module has used them for a while, and when this process has no further test."""
    yield
    if nextitem is None:
        SHARED.close()
    elif nextitem.path != item.path:
        SHARED.end_idle()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A test that must run commands of `doctor`, or of a runbook, fails when it has not."""
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
    """After Ctrl-C, pytest-xdist kills a worker that takes long to end; the worker's processes are killed here.

    A run that was not interrupted fails when a process is left.
    """
    SHARED.close()
    yield
    if WORKER:
        return
    deadline = time.monotonic() + LEFT_S_MAX
    while (left := _left_over()) and session.exitstatus == 0 and time.monotonic() < deadline:
        time.sleep(0.1)  # processes that were killed last are still ending
    if left and session.exitstatus == 0:
        print(f"\nstill running when all tests had ended: {left}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _left_over() -> list[psutil.Process]:
    """Processes of this run, supervisors first: they restart what is killed before them."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("TEST_RUN_ID") == os.environ["TEST_RUN_ID"]:
                found.append(process)
    return sorted(found, key=psutil.Process.create_time)
