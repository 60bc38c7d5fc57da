"""Maps ZooKeeper's refusals to errors of a tree, and to words; and the one request that has several steps."""

from typing import Any, Final

from kazoo import exceptions as kazoo_errors
from kazoo.client import KazooClient
from kazoo.protocol.states import ZnodeStat

from wallet_engine.routing.tree import (
    NodeExists,
    NodeMissing,
    NodeNotEmpty,
    NotAllowed,
    StoreUnavailable,
    TreeError,
    Version,
    VersionConflict,
)

ANSWERS: Final[dict[type[Exception], type[TreeError]]] = {
    kazoo_errors.NoNodeError: NodeMissing,
    kazoo_errors.NodeExistsError: NodeExists,
    kazoo_errors.BadVersionError: VersionConflict,
    kazoo_errors.NotEmptyError: NodeNotEmpty,
    kazoo_errors.NoAuthError: NotAllowed,
    kazoo_errors.NoChildrenForEphemeralsError: TreeError,
}
MEANING: Final[dict[type[TreeError], str]] = {
    NodeMissing: "does not exist",
    NodeExists: "exists already",
    VersionConflict: "was changed by another",
    NodeNotEmpty: "has children",
    NotAllowed: "may not be changed like this: give --zookeeper-user and --zookeeper-password-file of a role that may",
    TreeError: "would be below an ephemeral node",
}
#: Why the other steps of a refused transaction were not done.
_OTHERS: Final = (kazoo_errors.RolledBackError, kazoo_errors.RuntimeInconsistency)
#: The connection broke during the call: it is unknown whether the call was carried out.
LOST: Final = (kazoo_errors.ConnectionLoss, kazoo_errors.SessionExpiredError)


def set_async(client: KazooClient, path: str, data: bytes, version: int, beside: Version | None) -> Any:
    """Ask to set a node. With `beside` it is a transaction; its answer is for `stat_of`."""
    if beside is None:
        return client.set_async(path, data, version)
    both = client.transaction()
    both.check(*beside)
    both.set_data(path, data, version)
    return both.commit_async()


def stat_of(answer: Any, path: str, beside: Version | None) -> ZnodeStat:
    """The node's new state from the answer to `set_async`. Raises `TreeError` for what refused the transaction."""
    if beside is None:
        return answer
    for name, result in zip((beside.path, path), answer, strict=True):
        # A step before the refused one is rolled back, and one after it is not tried.
        if isinstance(result, Exception) and not isinstance(result, _OTHERS):
            raise refusal(name, result)
    return answer[-1]


def refusal(path: str, error: kazoo_errors.KazooException) -> TreeError:
    """The error to raise for ZooKeeper's answer about `path`."""
    answer = ANSWERS.get(type(error))
    if answer is None:
        return StoreUnavailable(f"ZooKeeper refuses {path}: {type(error).__name__}")
    return answer(f"{path} {MEANING[answer]}")
