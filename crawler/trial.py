"""One page, fetched as a crawl would, and what each selector of a site file finds on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from crawler import extract
from crawler.crawl_errors import Refused
from crawler.fetch import Fetcher
from crawler.guard import Guard
from crawler.listing import Listed, judged
from crawler.selectors import found_by
from crawler.site import Site
from crawler.thumbnails import Thumbnail, examine
from crawler.urls import without_parameters

__all__ = ["Found", "Trial", "TriedItem", "TriedLink", "try_page"]

_SHOWN = 3
_CHARS = 120


@dataclass(frozen=True, slots=True)
class Found:
    """What one selector finds: in how many of the items (None: it is looked for in the page), how often, what first."""

    key: str
    selector: str
    items: int | None
    count: int
    first: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TriedItem:
    """A product: what is found of it, its label with the rule that gives it, and what becomes of it."""

    url: str
    image: str | None
    maker: str
    title: str
    price: str
    label: str | None
    rule: int | None
    also: tuple[int, ...]
    fate: str


@dataclass(frozen=True, slots=True)
class TriedLink:
    """A category link: why it is not followed (None: it is), and the label of its category as far as its text tells."""

    url: str
    text: str
    why_not: str | None
    label: str | None


@dataclass(frozen=True, slots=True)
class Trial:
    """What a page gives by a site file; rules are numbered from 1, as they stand in the file."""

    url: str
    final_url: str
    content_type: str
    bytes: int
    path: tuple[str, ...]
    found: tuple[Found, ...]
    items: tuple[TriedItem, ...]
    next_page: str | None
    links: tuple[TriedLink, ...]
    image: str | None

    def to_json(self) -> dict[str, Any]:
        """The object that `bassline crawl --try --json` prints."""
        return asdict(self)


async def try_page(site: Site, url: str, *, path: Sequence[str] = ()) -> Trial:
    """Fetches one page, and the first image on it, as politely as a crawl; then applies the site file.

    Args:
        site: the site file.
        url: the page's address.
        path: names of its category from the top down, which a crawl knows from the links it came by.

    Raises:
        Refused: the page cannot be had: robots, the guard, the network.
    """
    fetcher = Fetcher(
        site.limits,
        Guard(site.site.allow_private, site.ports),
        agent=site.site.agent,
        user_agent=site.site.user_agent,
        allowed=site.allows,
    )
    async with fetcher:
        reply = await fetcher.page(url)
        content_type = reply.headers.get("Content-Type", "")
        tree = extract.parse(reply.body, reply.url, content_type)
        products = judged(site, extract.items(tree, site.listing), extract.breadcrumb(tree, site.listing) or path, url)
        image = await _first_image(site, fetcher, products)
    listing = site.listing
    following = extract.next_page(tree, listing.next) if listing.next else None
    if listing.page and products:
        following = _page_after(url, listing.page)
    return Trial(
        url=url,
        final_url=reply.url,
        content_type=content_type,
        bytes=len(reply.body),
        path=tuple(extract.breadcrumb(tree, listing) or path),
        found=tuple(_found(site, tree)),
        items=tuple(_item(one) for one in products),
        next_page=following,
        links=tuple(
            TriedLink(
                link.url,
                link.text,
                site.why_not_followed(link.text, link.url),
                site.listed_as((*path, link.text), link.url),
            )
            for link in extract.links(tree, site.follow.links, site.follow.text)
        ),
        image=image,
    )


async def _first_image(site: Site, fetcher: Fetcher, products: Sequence[Listed]) -> str | None:
    url = next((one.item.image for one in products if one.dropped is None and one.item.image), None)
    if url is None:
        return None
    try:
        reply = await fetcher.image(url)
        seen = examine(reply.body, site.drop, reply.headers.get("Content-Type", ""))
    except Refused as refused:
        return f"{url}: would be left out: {refused}"
    assert isinstance(seen, Thumbnail)
    return f"{url}: {seen.ext}, {seen.width}x{seen.height}, {len(seen.body):,} bytes: would be kept"


def _page_after(url: str, template: str) -> str:
    """The address of the result page after this one, which may have the template's parameters already."""
    pairs = dict(pair.partition("=")[::2] for pair in template.lstrip("?&").split("&"))
    given = dict(pair.partition("=")[::2] for pair in url.partition("?")[2].split("&"))
    number = next((given[name] for name, value in pairs.items() if value == "{page}" and name in given), "1")
    page = int(number) + 1 if number.isascii() and number.isdigit() and len(number) < 9 else 2
    return extract.page_number(without_parameters(url, frozenset(pairs)), template, page)


def _item(one: Listed) -> TriedItem:
    item, decision = one.item, one.decision
    fate = (
        f"dropped: {one.dropped}" if one.dropped
        else "no label rule fits" if decision.label is None
        else "no image found" if item.image is None
        else "fetched"
    )  # fmt: skip
    rule = decision.rule + 1 if decision.rule is not None else None
    also = tuple(number + 1 for number in decision.also)
    return TriedItem(item.url, item.image, item.maker, item.title, item.price, decision.label, rule, also, fate)


def _found(site: Site, tree: extract.Tree) -> list[Found]:
    listing = site.listing
    items = [element for element in found_by(listing.item, tree.root) if hasattr(element, "iter")]
    found = [_in_page("follow.links", site.follow.links, tree), _in_page("listing.item", listing.item, tree)]
    inner = [("listing.link", listing.link)]
    inner += [(f"listing.image {number}", selector) for number, selector in enumerate(listing.image, start=1)]
    inner += [(f"listing.{name}", getattr(listing, name)) for name in ("maker", "title", "price")]
    for key, selector in inner:
        if selector is not None:
            each = [values for values in (found_by(selector, item) for item in items) if values]
            count = sum(map(len, each))
            first = tuple(_shown(values[0]) for values in each[:_SHOWN])
            found.append(Found(key, selector, len(each), count, first))
    for key, named in (("listing.next", listing.next), ("listing.breadcrumb", listing.breadcrumb)):
        if named is not None:
            found.append(_in_page(key, named, tree))
    return found


def _in_page(key: str, selector: str, tree: extract.Tree) -> Found:
    values = found_by(selector, tree.root)
    return Found(key, selector, None, len(values), tuple(_shown(value) for value in values[:_SHOWN]))


def _shown(value: Any) -> str:
    """A text, or an element as its tag, class and the beginning of its text."""
    if isinstance(value, str):
        text = " ".join(value.split())
    else:
        name = ".".join([str(value.tag), *(value.get("class") or "").split()[:2]])
        text = f"<{name}> {extract.text_of(value)}"
    return text if len(text) <= _CHARS else f"{text[: _CHARS - 1]}…"
