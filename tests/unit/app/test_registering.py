"""An API process that could not be registered at once is registered later, and the log says why not yet."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from unit.admin.made import make_map

from wallet_engine.app import registering
from wallet_engine.routing import directory as directories
from wallet_engine.routing.directory import SERVICES, Directory, open_directory
from wallet_engine.routing.model import ServiceInfo

OURS = ServiceInfo("api", "h:8081", 2)


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Directory]:
    """A directory in which another process has our id."""
    monkeypatch.setattr(directories, "REGISTER_WAIT_S_MAX", 0.0)
    monkeypatch.setattr(registering, "RETRY_S", 0.01)
    with closing(make_map(tmp_path / "map.json", 2)) as made:
        made.register_service(ServiceInfo("api", "h:8080", 1))
        yield made


def test_it_is_registered_once_the_other_process_has_ended(other: Directory, tmp_path: Path) -> None:
    """The failure went unseen: a process served for good that no list of processes had."""

    async def main() -> list[object]:
        with closing(open_directory(None, tmp_path / "map.json")) as directory, capture_logs() as logged:
            registration = asyncio.create_task(registering.register(directory, OURS))
            async with asyncio.timeout(20):
                while not logged:
                    await asyncio.sleep(0.01)
                assert not registration.done()
                other.tree.delete(f"{SERVICES}/api")
                await registration
            assert other.services() == {"api": OURS}
            return [entry.get("error") for entry in logged]

    assert "is in use by another live process" in str(asyncio.run(main())[0])
