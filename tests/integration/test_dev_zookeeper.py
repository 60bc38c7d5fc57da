"""The ZooKeeper process that `dev` starts."""

from kazoo.client import KazooClient

from wallet_engine.dev.zookeeper import ZooKeeperProcess


def connect(address: str) -> KazooClient:
    client = KazooClient(address)
    client.start(timeout=10)
    return client


def test_it_serves_on_loopback(zookeeper: ZooKeeperProcess) -> None:
    assert zookeeper.serves()
    assert zookeeper.address.startswith("127.0.0.1:")


def test_what_was_acknowledged_survives_a_kill(private_zookeeper: ZooKeeperProcess) -> None:
    client = connect(private_zookeeper.address)
    client.create("/kept", b"map")
    client.stop()
    client.close()
    private_zookeeper.kill()
    assert not private_zookeeper.serves()

    port = private_zookeeper.port
    private_zookeeper.start_and_wait()
    assert private_zookeeper.port == port
    client = connect(private_zookeeper.address)
    assert client.get("/kept")[0] == b"map"
    client.stop()
    client.close()


def test_roots_do_not_see_each_other(zookeeper: ZooKeeperProcess, zookeeper_hosts: str) -> None:
    assert zookeeper_hosts.startswith(zookeeper.address + "/")
    client = connect(zookeeper_hosts)
    assert client.get_children("/") == []
    client.stop()
    client.close()
