"""The version of this program, and the formats that it reads; every process registers them."""

from importlib.metadata import version
from typing import Final

from wallet_engine.domain.entry import RULES
from wallet_engine.domain.memory import FORM
from wallet_engine.journal.snapshots import SNAPSHOT_VERSION
from wallet_engine.routing.model import Versions

OWN_VERSIONS: Final = Versions(version("wallet-engine"), RULES, SNAPSHOT_VERSION, int(FORM))
