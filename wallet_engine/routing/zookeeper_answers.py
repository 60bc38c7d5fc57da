"""Maps ZooKeeper's refusals to errors of a tree, and to words."""

from typing import Final

from kazoo import exceptions as kazoo_errors

from wallet_engine.routing.tree import (
    NodeExists,
    NodeMissing,
    NodeNotEmpty,
    NotAllowed,
    StoreUnavailable,
    TreeError,
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
#: The connection broke during the call: it is unknown whether the call was carried out.
LOST: Final = (kazoo_errors.ConnectionLoss, kazoo_errors.SessionExpiredError)


def refusal(path: str, error: kazoo_errors.KazooException) -> TreeError:
    """The error to raise for ZooKeeper's answer about `path`."""
    answer = ANSWERS.get(type(error))
    if answer is None:
        return StoreUnavailable(f"ZooKeeper refuses {path}: {type(error).__name__}")
    return answer(f"{path} {MEANING[answer]}")
