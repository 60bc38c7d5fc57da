"""What ZooKeeper's refusals mean, as errors of a tree and in words."""

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
#: The connection broke under the call: whether it was done is not known.
LOST: Final = (kazoo_errors.ConnectionLoss, kazoo_errors.SessionExpiredError)


def refusal(path: str, error: kazoo_errors.KazooException) -> TreeError:
    """The error to raise for what ZooKeeper answered about `path`."""
    answer = ANSWERS.get(type(error))
    if answer is None:
        return StoreUnavailable(f"ZooKeeper refuses {path}: {type(error).__name__}")
    return answer(f"{path} {MEANING[answer]}")
