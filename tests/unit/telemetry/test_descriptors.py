"""File descriptors: the limit is raised, and the last ones are kept for the process itself."""

import resource
import subprocess
import sys

import pytest

from wallet_engine.telemetry.descriptors import RESERVED_MAX, Reserve

RAISE = """
import resource
from wallet_engine.telemetry.descriptors import raise_limit
raise_limit()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_the_limit_is_raised_as_far_as_the_system_allows() -> None:
    command = ["sh", "-c", 'ulimit -Sn 64; ulimit -Hn 512; exec "$@"', "sh", sys.executable, "-c", RAISE]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    assert done.stdout.split() == [b"512", b"512"]


@pytest.mark.parametrize(
    ("limit", "last_taken"),
    [(48, 35), (256, 191), (1024, 1023 - RESERVED_MAX), (1 << 20, (1 << 20) - 1 - RESERVED_MAX)],
)
def test_the_last_ones_are_kept(monkeypatch: pytest.MonkeyPatch, limit: int, last_taken: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    reserve = Reserve()
    assert not reserve.refuses(last_taken)
    assert reserve.refuses(last_taken + 1)


def test_without_a_limit_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert not Reserve().refuses(1 << 30)
