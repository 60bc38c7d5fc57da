"""A journal copy reports connected processes whose certificates end within a month."""

import time
from pathlib import Path

from unit.journal.test_peer_tls import linked, run, served

from wallet_engine.app.callers_watch import CallersWatch
from wallet_engine.domain.principals import checked
from wallet_engine.journal import peer_tls
from wallet_engine.journal.peer_tls import PeerTls
from wallet_engine.telemetry.authority import Authority


def test_who_is_connected_with_a_certificate_that_ends_is_named(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca", "test")

    def tls_of(role: str, name: str, days: int) -> PeerTls:
        return PeerTls(authority.pair.cert, *authority.issue(checked(role, name), days=days))

    async def test() -> None:
        told: list[str] = []
        async with served(tls_of("journal", "j1", 365)) as (server, address):
            watch = CallersWatch(server.ending, told.append)
            for name, days in (("late", 365), ("soon", 20)):
                peer_tls.use(tls_of("service", name, days))
                client = await linked(address)
                watch.look()
                watch.look()
                await client.close()
        date = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 20 * 86_400))
        ends = f"certificates of callers end: service/soon on {date}"
        assert told == ["", "", ends, ends]

    try:
        run(test)
    finally:
        peer_tls.use(None)
