"""Faster imports: optional modules that are not used here are not loaded, and garbage collection is off meanwhile."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(*names: str) -> Iterator[None]:
    """In the block, importing these modules fails as if they were not installed. Afterwards all is as before."""
    known = {name: sys.modules[name] for name in names if name in sys.modules}
    sys.modules.update(dict.fromkeys(names))  # type: ignore[arg-type]  # None makes an import fail
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
        sys.modules.update(known)


@contextmanager
def uncollected() -> Iterator[None]:
    """In the block, garbage collection is off: imported modules are never garbage, and scanning them takes time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
