"""A failure beside payments is kept, with the time of its first occurrence, until the work succeeds."""

import asyncio

from wallet_engine.app.troubles import Troubles


def test_troubles_are_kept_until_they_are_over() -> None:
    async def run() -> None:
        troubles = Troubles()
        archive, snapshots = troubles.teller("archive"), troubles.teller("snapshots")
        archive("")
        assert troubles.now() == ()
        archive("1.wal: status 1")
        snapshots("status 2")
        await asyncio.wait_for(troubles.changed(), 1)
        (first, second) = troubles.now()
        assert (first.what, second.what) == ("1.wal: status 1", "status 2")

        archive("1.wal: status 1")  # the same failure again changes nothing
        assert not troubles._changed.is_set()
        await asyncio.sleep(0.002)
        archive("1.wal: status 7")
        (first_later, _) = troubles.now()
        assert (first_later.what, first_later.since_ms) == ("1.wal: status 7", first.since_ms)

        await asyncio.wait_for(troubles.changed(), 1)
        archive("")
        assert troubles.now() == (second,)
        await asyncio.wait_for(troubles.changed(), 1)

    asyncio.run(run())
