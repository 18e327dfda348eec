"""The ceiling a crawl is held against: aiohttp, 64 gets at a time into a tar, and nothing else.

No robots, no ledger, no hashes, nothing verified, nothing that survives a kill. Run as a program:
python -m bench.crawl_bare ADDRESSES.txt OUT.tar; prints one JSON object.
"""

from __future__ import annotations

import asyncio
import io
import json
import sys
import tarfile
from pathlib import Path
from time import perf_counter

import aiohttp

GETS = 64


async def fetch_all(urls: list[str], out: Path) -> None:
    """Gets all addresses into a tar, in whatever order they come."""
    waiting = iter(enumerate(urls))
    with tarfile.open(out, "w") as archive:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=GETS)) as session:

            async def work() -> None:
                for number, url in waiting:
                    async with session.get(url) as response:
                        response.raise_for_status()
                        body = await response.read()
                    info = tarfile.TarInfo(f"{number:08d}.jpg")
                    info.size = len(body)
                    archive.addfile(info, io.BytesIO(body))

            await asyncio.gather(*(work() for _ in range(GETS)))


if __name__ == "__main__":
    addresses = Path(sys.argv[1]).read_text().split()
    begun = perf_counter()
    asyncio.run(fetch_all(addresses, Path(sys.argv[2])))
    sys.stdout.write(json.dumps({"fetch_s": perf_counter() - begun}) + "\n")
