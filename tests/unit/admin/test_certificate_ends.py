"""`doctor` warns of certificates that end soon: those of servers, by a real handshake, and those in its own files."""

import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from unit.admin.test_findings import healthy
from unit.journal.test_peer_tls import run, served

from wallet_engine.admin.diagnosis.certificates import Certificate, certificates_of, ending
from wallet_engine.admin.diagnosis.findings import find
from wallet_engine.admin.survey import JournalState, Survey
from wallet_engine.domain.principals import checked
from wallet_engine.journal import peer_tls
from wallet_engine.journal.peer_tls import PeerTls
from wallet_engine.routing.model import ClusterConfig, JournalInfo
from wallet_engine.telemetry.authority import Authority


@pytest.fixture(autouse=True)
def nobody() -> Iterator[None]:
    yield
    peer_tls.use(None)


def in_days(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def test_a_certificate_is_named_a_month_before_it_ends_and_when_it_has_ended() -> None:
    one, two = checked("journal", "j1"), checked("server", "redis-1")
    seen = [
        Certificate("journal copy j1", one, in_days(29)),
        Certificate("API process api-1", checked("service", "api-1"), in_days(31)),
        Certificate("Redis at h1:1", two, in_days(-1)),
        Certificate("Redis at h2:1", two, in_days(-1)),
        Certificate("/etc/wallet/ca.pem", None, in_days(5)),
    ]
    found = list(ending(seen))
    assert [finding.severity for finding in found] == ["warning", "warning", "error", "error"]
    assert found[0].what.startswith("the certificate of /etc/wallet/ca.pem ends on ")
    assert found[1].what.startswith("the certificate of journal/j1 (journal copy j1) ends on ")
    assert "in 28 days" in found[1].what
    assert "ca issue journal j1 --ca DIR --renew" in str(found[1].mend)
    assert str(found[1].mend).endswith("they are reloaded")
    assert "ended on" in found[2].what
    assert "CONFIG SET tls-cert-file FILE tls-key-file FILE" in str(found[2].mend)
    assert "reloaded" not in str(found[2].mend)
    (both,) = ending(
        [Certificate(f"{server} at h1:1", two, seen[2].ends) for server in ("Redis", "ZooKeeper")]
    )
    assert "CONFIG SET tls-cert-file" in str(both.mend)
    assert "start its servers again, one after the other" in str(both.mend)
    assert not [finding for finding in find(healthy()) if finding.check == "certificates"]


def test_what_a_server_shows_is_seen_without_a_certificate_of_ones_own(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca", "test", days=20)
    pair = authority.issue(checked("journal", "j1"), days=3)

    async def test() -> None:
        async with served(PeerTls(authority.pair.cert, *pair)) as (_, (host, port)):
            info = JournalInfo("j1", f"{host}:{port}", "/j", 1, "h", tls="required")
            dead = JournalInfo("j2", "127.0.0.1:1", "/j", 1, "h", tls="required")
            states = tuple(JournalState(each, {}, 0, ()) for each in (info, dead))
            survey = Survey(ClusterConfig(1), 0, (), (), states, ())
            seen: list[Certificate] = []
            asking = threading.Thread(target=lambda: seen.extend(certificates_of(survey, ())))
            asking.start()
            while asking.is_alive():
                await asyncio.sleep(0.01)
            assert [(one.where, one.holder) for one in seen] == [
                ("journal copy j1", checked("journal", "j1"))
            ]
            assert len(list(ending(seen))) == 1

    run(test)


def test_files_of_the_command_itself_are_looked_at(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca", "test", days=20)
    pair = authority.issue(checked("admin", "sre"), days=3)
    peer_tls.use(PeerTls(authority.pair.cert, *pair))
    found = [
        finding.what for finding in ending(certificates_of(Survey(ClusterConfig(1), 0, (), (), (), ()), ()))
    ]
    assert len(found) == 2
    assert any("admin/sre" in what for what in found)
    assert any("ca.pem ends on" in what for what in found)
