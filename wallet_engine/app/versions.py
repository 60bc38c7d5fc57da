"""What this program is, and up to what it reads; every process registers it."""

from importlib.metadata import version
from typing import Final

from wallet_engine.domain.entry import RULES
from wallet_engine.domain.memory import FORM
from wallet_engine.journal.snapshots import SNAPSHOT_VERSION
from wallet_engine.routing.model import Versions

OWN_VERSIONS: Final = Versions(version("wallet-engine"), RULES, SNAPSHOT_VERSION, int(FORM))
