"""Takes the brokers of librdkafka's own cluster down and up again; the Python package has no function for that."""

import ctypes
from pathlib import Path

import confluent_kafka
from confluent_kafka import Producer

_PACKAGE = Path(confluent_kafka.__file__).parent
_library = ctypes.CDLL(str(next((_PACKAGE.parent / "confluent_kafka.libs").glob("librdkafka*"))))
_cluster_of = _library.rd_kafka_handle_mock_cluster
_cluster_of.restype, _cluster_of.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
_set = {name: getattr(_library, f"rd_kafka_mock_broker_set_{name}") for name in ("down", "up")}
for _each in _set.values():
    _each.argtypes = [ctypes.c_void_p, ctypes.c_int32]


def set_brokers(owner: Producer, state: str, count: int = 3) -> None:
    """`state`: `down` (connections break, new ones are refused) or `up`."""
    handle = ctypes.c_void_p.from_address(id(owner) + object.__basicsize__).value  # the object's first field
    for number in range(1, count + 1):
        assert _set[state](_cluster_of(handle), number) == 0
