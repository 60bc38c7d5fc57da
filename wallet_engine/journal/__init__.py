"""The journal: the durable record on disk of everything that the engine answered, and the receipts for it.

    format      the bytes: segment, frame, seal, running hash. THE SPECIFICATION
    writer      append, sync, rotate, seal       JournalWriter
    opening     prove and heal before appending
    torn        what counts as a torn tail, and cutting it
    scan        the frames of one segment
    take        takes frames into chains and index
    chains      the end of each partition's chain, and its recent nonces
    index       where in a sealed segment a partition is
    reader      the entries, from any process     read
    feed        the entries for followers, without end    Feed
    lookup      entries and nonces no longer in memory
    threads     for long work, beside an event loop
    verify      everything, checked               verify_directory
    head        lock, and number of the newest segment
    segments    names, headers, creation
    archive     names in the archive, and how far it goes
    restore     segments that are in the archive only     Restorer
    prune       removes archived segments from the disk
    snapshots   the state of one partition in a file      Snapshot

    link_wire      the messages between journal and service
    link_server    broadcasts receipts, answers asks       LinkServer
    receipts_tracker   who waits for which nonce (no I/O)      ReceiptTracker
    link_client    keeps the connection to one copy        LinkClient

Invariant: nothing here knows Redis. The code that drains the streams into the writer is in a higher layer.
"""

from wallet_engine.journal.chains import Position
from wallet_engine.journal.errors import Damaged, Fork, Link
from wallet_engine.journal.link_client import LinkClient
from wallet_engine.journal.link_server import LinkServer
from wallet_engine.journal.reader import Record, read
from wallet_engine.journal.receipts_tracker import ReceiptTracker
from wallet_engine.journal.verify import Verified, verify_directory
from wallet_engine.journal.writer import Group, JournalWriter

__all__ = [
    "Damaged",
    "Fork",
    "Group",
    "JournalWriter",
    "Link",
    "LinkClient",
    "LinkServer",
    "Position",
    "ReceiptTracker",
    "Record",
    "Verified",
    "read",
    "verify_directory",
]
