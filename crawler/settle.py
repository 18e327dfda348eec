"""The end of a crawl: what the shards hold is made what the verdicts say, and the set is published, all of it at once.

Every step can be repeated from either side of a kill:

1. pictures of what goes are put into the ledger; commit;
2. shards with samples to leave out or to amend are written anew: in place while no manifest names them, else under a
   new number, aside; the ledger takes over which sample lies where; commit;
3. the new shards are moved in, indexes and manifest written: from here on the set is the new one; commit;
4. shards that the manifest named before are removed.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from crawler.grouping import KEY_TYPE, Begun, groups_of_samples
from crawler.outcomes import outcomes, write_drops
from crawler.pictures import Pictures
from crawler.places import NOW_TOLD, PLACE
from crawler.report import COSTS
from crawler.shelf import Shelf, remove_leftovers
from crawler.site import Site
from crawler.verdicts import KEY
from shards import tar
from shards.files import map_file
from shards.index import INDEX_NAME, KeyGroups, Part, known_rows, tar_samples
from shards.shard_errors import ShardError
from shards.shard_set import ShardSet, finish, read_manifest
from shards.writer import Edit, ShardInfo, rewrite, shard_name

__all__ = ["settle"]

_DOOMED = """
SELECT shard, key FROM sample
WHERE key NOT IN (SELECT firsts.key FROM firsts JOIN product ON product.id = firsts.id WHERE product.outcome = 'kept')
"""
# where a product stands in the shop changes with every other product: only what was written in this crawl has to agree
_TOLD_OTHERWISE = f"""
SELECT sample.shard, sample.key, {NOW_TOLD}, {PLACE}, product.label, category.path, product.listing_url, product.url,
       product.maker, product.title, image.url, image.final_url, image.etag, image.last_modified, image.fetched_at,
       image.content_type, product.row
FROM sample JOIN firsts ON firsts.key = sample.key JOIN product ON product.id = firsts.id
JOIN image ON image.id = product.image LEFT JOIN category ON category.id = product.category
WHERE product.outcome = 'kept'
      AND (sample.told <> {NOW_TOLD} OR (sample.generation = :generation AND sample.place <> {PLACE}))
"""  # noqa: S608  (constants)
_PICTURED = f"""
SELECT {KEY}, max(product.outcome) FROM product JOIN image ON image.id = product.image
WHERE product.outcome IN ('placeholder', 'label-conflict', 'near-duplicate') AND image.sha256 IS NOT NULL GROUP BY 1
"""  # noqa: S608  (constants)
_REMEMBERED = "SELECT key, position, packed FROM sample WHERE shard = ? ORDER BY position"


def settle(
    db: sqlite3.Connection,
    shelf: Shelf,
    site: Site,
    labels: list[str],
    spent: dict[str, Any],
    on_step: Callable[[str], None] = lambda step: None,
    begun: Begun | None = None,
) -> int:
    """Settles a crawl whose verdicts are decided and whose shards are sealed, and publishes its set.

    Runs in the frontier's thread, inside its transaction. Returns the number of groups.

    Args:
        spent: what the crawl cost, for the manifest's source.
        on_step: told what it is at, in the frontier's thread.
        begun: groups that are being found already.
    """
    lost = db.execute("SELECT count(*) FROM product WHERE outcome IS NULL").fetchone()[0]
    if lost:
        raise AssertionError(f"{lost} products without an outcome: a fault in the crawler, not in the site")
    doomed: dict[int, list[str]] = {}
    for shard, key in db.execute(_DOOMED):
        doomed.setdefault(shard, []).append(key)
    on_step("pictures of what goes")
    _keep_pictures(db, shelf, doomed)
    shelf.commit()
    _rewrite(db, shelf, labels, doomed, on_step)
    shelf.commit()
    on_step("groups of near-duplicates")
    groups = groups_of_samples(db, begun)
    on_step("indexes and manifest")
    _publish(db, shelf, site, labels, groups, spent)
    write_drops(db, shelf.folder)
    number = int(groups().numbers.max(initial=-1)) + 1
    # what it cost too: a kill may come before the report is made
    told = [("stage", "done"), ("published", "1"), ("groups", str(number)), ("spent", json.dumps(spent))]
    db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", told)
    shelf.commit()
    remove_leftovers(db, shelf.folder, shelf.staging)
    return number


def _keep_pictures(db: sqlite3.Connection, shelf: Shelf, doomed: dict[int, list[str]]) -> None:
    reasons = dict(db.execute(_PICTURED))
    kept = Pictures(db)
    for shard, keys in sorted(doomed.items()):
        wanted = {key for key in keys if key in reasons}
        if not wanted:
            continue
        path = shelf.path_of(shard)
        data = map_file(path)
        for sample in tar_samples(tar.walk(data, path)):
            if sample.key in wanted and (image := sample.image):
                kept.keep(bytes(data[image.offset : image.offset + image.size]), reasons[sample.key])


def _rewrite(
    db: sqlite3.Connection,
    shelf: Shelf,
    labels: list[str],
    doomed: dict[int, list[str]],
    on_step: Callable[[str], None],
) -> None:
    numbers = {name: number for number, name in enumerate(labels)}
    edits: dict[int, dict[str, Edit | None]] = {shard: dict.fromkeys(keys) for shard, keys in doomed.items()}
    generation = int((db.execute("SELECT value FROM meta WHERE key = 'generation'").fetchone() or (0,))[0])
    amended: list[tuple[int, int, str, str]] = []
    for shard, key, told, place, label, path, *said, row in db.execute(_TOLD_OTHERWISE, {"generation": generation}):
        names = ("listing_url", "product_url", "maker", "title", "image_url", "final_url", "etag", "last_modified")
        known = {"label": label, **dict(zip((*names, "fetched_at", "content_type"), said, strict=True))}
        if path is not None:
            known["label_path"] = json.loads(path)
        if row is not None:
            known["row"] = json.loads(row)
        edits.setdefault(shard, {})[key] = Edit(numbers[label], partial(_with, known))
        amended.append((told, generation, place, key))
    if edits:
        _doubt(db, edits, [key for *_, key in amended])
        shelf.commit()
    for done, (shard, changed) in enumerate(sorted(edits.items()), start=1):
        on_step(f"shard {done:,} of {len(edits):,} that change")
        gone = [(key,) for key, edit in changed.items() if edit is None]
        db.executemany("DELETE FROM sample WHERE key = ?", gone)
        if not db.execute("SELECT 1 FROM sample WHERE shard = ? LIMIT 1", (shard,)).fetchone():
            continue  # nothing is left of it
        number = shelf.new_shard() if shelf.in_use(shard) else shard
        target = shelf.path_of(shard) if number == shard else shelf.staging / shelf.path_of(number).name
        info = rewrite(shelf.path_of(shard), changed, target=target)
        db.execute("UPDATE sample SET shard = ? WHERE shard = ?", (number, shard))
        db.execute("INSERT OR REPLACE INTO sealed VALUES (?, ?, ?)", (number, info.bytes, info.sha256))
    db.executemany("UPDATE sample SET told = ?, generation = ?, place = ? WHERE key = ?", amended)


def _doubt(db: sqlite3.Connection, edits: dict[int, dict[str, Edit | None]], amended: list[str]) -> None:
    """Notes that shards may be other than the ledger says: a kill undoes there what is done to them from here on.

    The next run's verdicts may be others. What it has to amend it amends again, and what was to go is looked for when
    the ledger is opened (`crawler.shelf.look_for_doomed`).
    """
    shards = [(shard,) for shard in edits]
    db.executemany("UPDATE sample SET packed = NULL WHERE shard = ?", shards)
    db.executemany("DELETE FROM sealed WHERE shard = ?", shards)
    db.executemany("UPDATE sample SET told = ~told WHERE key = ?", [(key,) for key in amended])
    doomed = [(key,) for changed in edits.values() for key, edit in changed.items() if edit is None]
    db.executemany("UPDATE sample SET generation = -1 - generation WHERE key = ?", doomed)


def _with(known: dict[str, Any], meta: dict[str, Any]) -> dict[str, Any]:
    made = {**meta, **known}
    if made.get("content_type") is None:  # said only where it is another's
        made.pop("content_type", None)
    return made


def _publish(
    db: sqlite3.Connection,
    shelf: Shelf,
    site: Site,
    labels: list[str],
    groups: Callable[[], KeyGroups],
    spent: dict[str, Any],
) -> None:
    shards = [row[0] for row in db.execute("SELECT DISTINCT shard FROM sample ORDER BY shard")]
    tars = shelf.move_in(shards)
    numbers = dict(zip(tars, shards, strict=True))
    source = {
        "kind": "crawl",
        "site": site.site.name,
        "site_version": site.site.version,
        "site_digest": site.digest,
        "start": list(site.site.start),
        "outcomes": outcomes(db),
        **spent,
    }
    if not _is_published(shelf.folder, tars, labels, source):
        known = partial(_known, db, numbers, len(labels))
        sealed = [ShardInfo(shard_name(shard), 0, *told) for shard, *told in db.execute("SELECT * FROM sealed")]
        finish(shelf.folder, labels, source=source, groups=groups, tars=tars, known=known, sealed=sealed).close()


def _known(db: sqlite3.Connection, numbers: dict[Path, int], labels: int, path: Path) -> Part | None:
    """The index rows of a shard that is as it was written in the crawl."""
    rows = db.execute(_REMEMBERED, (numbers[path],)).fetchall()
    keys, positions, packed = zip(*rows, strict=True)
    if None in packed:
        return None
    return known_rows(path, np.array(keys, KEY_TYPE), np.array(positions), b"".join(packed), labels)


def _is_published(folder: Path, tars: list[Path], labels: list[str], source: dict[str, Any]) -> bool:
    """Whether the set in use is this one, whatever this crawl cost; shards in use are never changed."""
    try:
        manifest = read_manifest(folder)
        ShardSet.open(folder).close()
    except ShardError:
        return False
    told = {name: value for name, value in manifest.source.items() if name not in COSTS}
    known = {name: value for name, value in source.items() if name not in COSTS}
    names = [path.name for path in tars]
    if (folder / f"{INDEX_NAME}.next").exists():  # a kill came between manifest and index
        return False
    return (told, list(manifest.labels), [info.name for info in manifest.shards]) == (known, labels, names)
