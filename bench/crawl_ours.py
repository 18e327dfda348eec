"""Our crawl as a program: python -m bench.crawl_ours JSON; prints one JSON object.

The site file is one a user would write for the bench's shop; only the host may have a private address, and the pace is
not limited, because the server is ours.
"""

from __future__ import annotations

import atexit
import gc
import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["site_tables"]


def site_tables(start: str, hosts: list[str], limits: dict[str, Any]) -> dict[str, Any]:
    """The tables of the site file."""
    return {
        "site": {"name": "bench", "start": [start], "hosts": hosts, "allow_private": hosts},
        "follow": {"links": "a.category"},
        "labels": {
            "rules": [{"label": "guitar", "path": ["^guitars$"]}, {"label": "bass", "path": ["^basses$"]}],
        },
        "listing": {
            "item": "li.product",
            "link": "a.to",
            "image": ["img::attr(src)"],
            "maker": ".maker",
            "title": ".title",
            "next": "a.next",
        },
        "limits": limits,
    }


def main(wish: dict[str, Any]) -> dict[str, Any]:
    """Crawls; returns the report."""
    from crawler.crawl import run
    from crawler.site import Site
    from shards.toml_file import validate

    site = validate(Site, site_tables(wish["start"], wish["hosts"], wish["limits"]), "bench")
    return run(site, Path(wish["out"])).to_json()


if __name__ == "__main__":
    atexit.register(gc.freeze)  # as the command line does
    sys.stdout.write(json.dumps(main(json.loads(sys.argv[1]))) + "\n")
