"""The credentials that `dev` gives its processes, and the variables that it removes from their environment."""

from pathlib import Path

import pytest

from wallet_engine.dev.beginning import DevOptions
from wallet_engine.dev.credentials import Credentials
from wallet_engine.dev.layout import Wishes
from wallet_engine.dev.supervisor import DECIDED_HERE, Supervisor


def test_who_has_sourced_one_cluster_s_admin_env_may_start_another(tmp_path: Path) -> None:
    """Otherwise its processes would log in as the first cluster's SRE; with --embedded they ended with an error."""
    options = DevOptions(tmp_path, 8080, Wishes(), auth=True, certificates=True)
    sourced = Credentials(tmp_path, options, redis_tls=True).variables(zookeeper=True)
    assert {"ZOOKEEPER_USER", "REDIS_CA", "PEER_KEY"} < sourced.keys()
    assert sourced.keys() <= set(DECIDED_HERE)


def test_the_files_of_an_api_by_https_are_none_of_dev_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its API processes speak HTTP. With the api.env of a real one in the environment, dev waited for ten minutes."""
    named = ("WALLET_TLS_CERT", "WALLET_TLS_KEY", "WALLET_TLS_CLIENT_CA")
    for name in named:
        monkeypatch.setenv(name, "/etc/wallet/service-api-1.pem")
    environ = Supervisor(DevOptions(tmp_path, 8080, Wishes()))._environ
    assert not environ.keys() & set(named)
