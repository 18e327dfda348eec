"""What is left out, each by its rule; and every product has one outcome, whatever came in and in whatever order."""

from __future__ import annotations

import asyncio
import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from crawler.crawl import crawl
from crawler.crawl_errors import Refused
from crawler.extract import Item
from crawler.frontier import LEDGER_NAME, Frontier, Result
from crawler.limits import Limits
from crawler.listing import Listed
from crawler.outcomes import outcomes
from crawler.pictures import pictures
from crawler.provenance import Told
from crawler.quota import release
from crawler.refresh import carry_over
from crawler.settle import settle
from crawler.shop.catalogue import catalogue
from crawler.shop.render import render
from crawler.site import Decision, Drop, Site, load_site
from crawler.thumbnails import examine, examine_all
from crawler.verdicts import decide
from shards.duplicates import dhash, hash_image, near
from shards.errors import ConfigError
from shards.shard_set import ShardSet
from shards.verify import verify

FAST = Limits(concurrency=16, per_host=16, rate_per_host=0, backoff_s=0.01, retries=0)


def refused(body: bytes, drop: Drop, content_type: str = "") -> str | None:
    try:
        examine(body, drop, content_type)
    except Refused as reason:
        return reason.reason
    return None


def test_aspect_mislabelled_and_known_placeholders(make_picture):
    wide, square, png = make_picture(1, (300, 60)), make_picture(2), make_picture(3, kind="PNG")
    assert refused(wide, Drop()) is None
    assert refused(wide, Drop(max_aspect=4)) == "aspect"
    assert refused(wide, Drop(max_aspect=5)) is None
    assert refused(make_picture(1, (60, 300)), Drop(max_aspect=4)) == "aspect"
    strict = Drop(mislabelled=True)
    for body, said, reason in (
        (png, "image/jpeg", "mislabelled"), (png, "image/png; charset=binary", None), (png, "text/plain", None),
        (square, "image/jpg", None), (square, "IMAGE/WEBP", "mislabelled"), (square, "", None),
    ):  # fmt: skip
        assert refused(body, strict, said) == reason, said
        assert refused(body, Drop(), said) is None
    known = examine(square, Drop())
    with Image.open(io.BytesIO(square)) as image, io.BytesIO() as out:
        image.save(out, "JPEG", quality=60)
        again = out.getvalue()
    by_bytes, by_sight = Drop(placeholder=(known.sha256.hex().upper(),)), Drop(placeholder=(known.dhash.hex(),))
    assert [refused(body, by_bytes) for body in (square, again, png)] == ["placeholder", None, None]
    assert [refused(body, by_sight) for body in (square, again, png)] == ["placeholder", "placeholder", None]
    with pytest.raises(ConfigError, match=r"drop.placeholder.0.*64 \(sha256\) or 288 \(dhash\) hex digits"):
        load_site("embedded", drop={"placeholder": ["abc"]})


def test_color_variants_are_near_and_other_products_are_not():
    """Of the shop's color families two in three are near (docs/decisions/shards-dhash.md says which are not)."""
    families: dict[int, list[bytes]] = {}
    for product in catalogue(700, seed=2).products:
        if product.photo and product.kind in ("guitar", "bass"):
            families.setdefault(product.family, []).append(product)
    drawn = [[hash_image(render(one)) for one in family] for family in families.values() if len(family) > 1]
    pairs = [near(family[0], other) for family in drawn for other in family[1:]]
    assert len(pairs) >= 20
    assert np.mean(pairs) > 0.4
    strangers = [near(a[0], b[0]) for i, a in enumerate(drawn) for b in drawn[:i]]
    assert np.mean(strangers) < 0.02
    turned = []
    for product in list(catalogue(40, seed=4).products)[:30]:
        with Image.open(io.BytesIO(render(product))) as image:
            hue, saturation, value = image.convert("HSV").split()
            other = Image.merge("HSV", (hue.point(lambda v: (v + 85) % 256), saturation, value)).convert("RGB")
            turned.append(near(dhash(image), dhash(other)))
    assert np.mean(turned) > 0.9


async def test_near_duplicates_on_request_and_pictures_of_what_was_left_out(start_web, make_picture, site_at, tmp_path):
    good = make_picture(1)
    with Image.open(io.BytesIO(good)) as image, io.BytesIO() as out:
        image.save(out, "JPEG", quality=70)
        near_one = out.getvalue()
    images = {"a": good, "b": near_one, "c": make_picture(2), "d": make_picture(3, (8, 8)), "e": b"<html>"}
    images |= {f"p{n}": make_picture(7) for n in range(5)}
    items = "".join(
        f'<div class="fx-product-list-entry"><div class="product"><a class="product__image" href="/gb/{name}.htm">'
        f'<picture class="fx-picture"><source data-srcset="/img/{name}.jpg"></picture></a></div></div>'
        for name in images
    )
    link = '<li class="link-list__item"><a class="link-list__text" href="/gb/b.html">Basses</a></li>'
    table = {"/": link, "/gb/b.html": items, **{f"/img/{name}.jpg": body for name, body in images.items()}}
    url = await start_web(table)
    report = await crawl(site_at(url, drop={"near_duplicates": True}), tmp_path, limits=FAST)
    assert (report.kept, report.dropped) == (
        2, {"near-duplicate": 1, "too-small": 1, "not-an-image": 1, "placeholder": 5},
    )  # fmt: skip
    with ShardSet.open(tmp_path) as found:
        assert {bytes(found.image(i)) for i in range(len(found))} == {good, images["c"]}
    seen = {(picture.reason, picture.body) for picture in pictures(tmp_path / LEDGER_NAME)}
    assert seen == {("near-duplicate", near_one), ("too-small", images["d"]), ("placeholder", images["p0"])}


@st.composite
def shops(draw: st.DrawFn) -> list[tuple[int, str, int, int]]:
    """Products on pages: product, label, image address, page."""
    listed = st.tuples(st.integers(0, 14), st.sampled_from("ab"), st.integers(0, 9), st.integers(1, 3))
    return draw(st.lists(listed, min_size=1, max_size=30))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shop=shops(),
    bodies=st.lists(st.integers(0, 6), min_size=10, max_size=10),
    bad=st.sets(st.integers(0, 9), max_size=4),
    quota=st.sampled_from([None, None, 1, 3]),
    orders=st.tuples(st.integers(0, 99), st.integers(0, 99)),
    near_duplicates=st.booleans(),
)
def test_every_product_has_one_outcome_in_any_order(
    shop, bodies, bad, quota, orders, near_duplicates, make_picture, tmp_path_factory
):
    labels: dict[str, Any] = {"rules": [{"label": label, "path": [label]} for label in "ab"], "conflict": "drop"}
    site = load_site(
        "embedded",
        labels=labels | ({"quota": quota} if quota else {}),
        drop={"near_duplicates": near_duplicates, "placeholder_at": 3},
    )
    images = {number: make_picture(body, (40, 40)) for number, body in enumerate(bodies)}
    found = []
    for order in orders:
        folder = tmp_path_factory.mktemp("set")
        found.append(asyncio.run(_crawled(site, folder, shop, images, bad, random.Random(order))))
    assert found[0] == found[1]


async def _crawled(
    site: Site, folder: Path, shop: list, images: dict[int, bytes], bad: set[int], rng: random.Random
) -> tuple[dict, dict]:
    """A crawl by hand, closed and opened again at any time: outcomes, and label by key."""
    frontier = Frontier(folder, shard_samples=3, quota=site.labels.quota_of)
    await frontier.add_categories([(f"http://s/{label}", 0, (label,), label, "http://s/p") for label in "ab"], ())
    await frontier.set_labels(["a", "b"])
    categories = {category.label: category for category in await frontier.categories()}
    pages: dict[tuple[str, int], list[Listed]] = {}
    for product, label, image, page in shop:
        item = Item(f"http://s/{product}.htm", f"http://i/{image}.jpg", "", str(product), "")
        pages.setdefault((label, page), []).append(Listed(item, Decision(label)))
    for label, page in rng.sample(sorted(pages), len(pages)):
        category = categories[label]
        for _ in range(page - category.page):
            category = category.turned_to("http://s/p")
        await frontier.add_page(category, pages[label, page], listing_url="http://s/p", next_page=None)

    def outstanding(db: Any) -> int:
        carry_over(db, "2026-01-01")
        return decide(db, site) + release(db, site.labels.quota_of)

    more = 1
    while more:
        jobs = await frontier.lease("i", 0, 100)
        for job in rng.sample(jobs, len(jobs)):
            number = int(job.url.rpartition("/")[2].removesuffix(".jpg"))
            told = Told(
                frontier.label_number(job.label), job.label, (), job.url, job.url, job.listing_url, job.product_url,
                job.maker, job.title, job.row, "", None, None, "s", "1",
            )  # fmt: skip
            (outcome,) = examine_all([(images[number], "", told)], site.drop)
            if number in bad:
                outcome, told = Refused("http-500", failed=True), None
            frontier.post([Result(job, outcome, told, 1)])
            if rng.random() < 0.1:
                await frontier.close()
                frontier = Frontier(folder, shard_samples=3, quota=site.labels.quota_of)
        more = await frontier.call(outstanding)
    await frontier.seal()
    counted = await frontier.call(outcomes)
    products = (await frontier.counts())["products"]
    assert sum(sum(counts.values()) for counts in counted.values()) == products == len({row[0] for row in shop})
    samples = {}
    if counted["kept"]:
        await frontier.in_thread(lambda db, shelf: settle(db, shelf, site, ["a", "b"], {}))
        assert verify(folder) == []
        with ShardSet.open(folder) as made:
            for i in range(len(made)):
                meta = {name: made.meta(i)[name] for name in ("product_url", "label", "image_url")}
                samples[made.key(i)] = (made.labels[made.label_ids[i]], meta)
        assert len(samples) == sum(counted["kept"].values())
        if site.labels.quota:
            assert max([label for label, _ in samples.values()].count(label) for label in "ab") <= site.labels.quota
    rows = await frontier.call(lambda db: db.execute("SELECT url, outcome FROM product ORDER BY url").fetchall())
    await frontier.close()
    return dict(rows), samples
