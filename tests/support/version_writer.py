"""Make versions until killed, or a number of them; print each number once it is acknowledged.

Run as `python -m tests.support.version_writer LOCATION NAME BYTES COUNT`; COUNT 0 is no end.
"""

from __future__ import annotations

import asyncio
import os
import sys
from itertools import count

from service.stores.objects import Objects
from service.stores.versions import Versions

COLLECTION = "things"


async def write(location: str, name: str, size: int, times: int) -> None:
    versions = Versions(Objects(location), COLLECTION)
    for number in range(times) if times else count():
        made = await versions.create(
            name,
            metadata={"writer": os.getpid(), "number": number},
            blobs={"first": os.urandom(size), "second": os.urandom(16)},
        )
        sys.stdout.write(f"{made.version}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
