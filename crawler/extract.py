"""From a page to what stands on it: category links, products with their thumbnails, the next page.

Selectors are compiled once and run on lxml's tree: 100 items cost 3 ms, where a Selector object an item would cost 50.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from parsel import Selector

from crawler.site import Listing, compile_pattern, compile_selector
from crawler.urls import absolute, without_parameters

__all__ = ["Item", "Link", "items", "links", "next_page", "page_number", "parse", "srcset"]

MAX_LINKS = 10_000  # of one page; a page with more is no category page
MAX_ITEMS = 1_000


@dataclass(frozen=True, slots=True)
class Link:
    """A link and its text."""

    url: str
    text: str


@dataclass(frozen=True, slots=True)
class Item:
    """A product on a result page; `image` is None if no candidate is an address."""

    url: str
    image: str | None
    maker: str
    title: str
    price: str


@dataclass(frozen=True, slots=True)
class Tree:
    """A parsed page and the address its references count from."""

    root: Any
    base: str


def parse(body: bytes, url: str, content_type: str = "") -> Tree:
    """Parses HTML, whatever it is; entities are not expanded and nothing is fetched.

    Args:
        body: the page.
        url: its final address.
        content_type: the header, for its charset; UTF-8 without.
    """
    charset = content_type.partition("charset=")[2].partition(";")[0].strip(" '\"").lower() or "utf-8"
    try:
        "".encode(charset)
    except (LookupError, ValueError):
        charset = "utf-8"
    body = body.strip() or b"<html></html>"
    try:
        root = Selector(body=body, type="html", encoding=charset, huge_tree=False).root
    except (LookupError, ValueError):  # Python knows charsets that libxml2 does not
        root = Selector(body=body, type="html", encoding="utf-8", huge_tree=False).root
    bases = compile_selector("base::attr(href)")(root)
    return Tree(root, (absolute(url, str(bases[0])) if bases else None) or url)


def links(tree: Tree, selector: str) -> list[Link]:
    """The links that `selector` finds, in the order of the page, each address once."""
    found: dict[str, Link] = {}
    for element in compile_selector(selector)(tree.root)[:MAX_LINKS]:
        url = absolute(tree.base, element.get("href") or "") if hasattr(element, "get") else None
        if url is not None and url not in found:
            found[url] = Link(url, _text(element))
    return list(found.values())


def items(tree: Tree, listing: Listing) -> list[Item]:
    """The products on a result page, in its order. One without a link goes by its image; others are passed over."""
    ignored = frozenset(listing.ignore_parameters)
    link = compile_selector(listing.link)
    found: list[Item] = []
    for element in compile_selector(listing.item)(tree.root)[:MAX_ITEMS]:
        image = _image(tree.base, element, listing)
        url = next(filter(None, (absolute(tree.base, _href(value)) for value in link(element))), None)
        url = without_parameters(url, ignored) if url else image
        if url is not None:
            texts = (_first(element, listing.maker), _first(element, listing.title), _first(element, listing.price))
            found.append(Item(url, image, *texts))
    return found


def next_page(tree: Tree, selector: str) -> str | None:
    """The address that the next-page link has."""
    return next(
        filter(None, (absolute(tree.base, _href(value)) for value in compile_selector(selector)(tree.root))), None
    )


def page_number(category: str, template: str, page: int) -> str:
    """The address of a category's result page by a template such as "?pg={page}&ls=100"; other parameters are kept."""
    parts = urlsplit(category)
    query = "&".join(filter(None, (parts.query, template.lstrip("?&").replace("{page}", str(page)))))
    return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))


def srcset(value: str) -> Iterator[str]:
    """The addresses in a srcset attribute, or the plain one; commas inside one are kept (HTML, 4.8.4.2.2)."""
    rest = value.strip(" \t\r\n\f,")
    while rest:
        address, _, rest = _split_at_space(rest)
        if address.endswith(","):
            yield address.rstrip(",")
        else:
            yield address
            rest = rest.partition(",")[2]
        rest = rest.strip(" \t\r\n\f,")


def _split_at_space(text: str) -> tuple[str, str, str]:
    # HTML's white space, not Python's, which has twenty more characters
    pieces = re.split(r"[ \t\r\n\f]+", text, maxsplit=1)
    return pieces[0], " ", pieces[1] if len(pieces) > 1 else ""


def _image(base: str, element: Any, listing: Listing) -> str | None:
    for selector in listing.image:
        for value in compile_selector(selector)(element):
            for candidate in srcset(str(value)):
                url = absolute(base, candidate)
                if url is not None:
                    for pattern, replacement in listing.rewrite:
                        url = compile_pattern(pattern).sub(replacement, url)
                    if (url := absolute(base, url)) is not None:
                        return url
    return None


def _href(value: Any) -> str:
    return value if isinstance(value, str) else str(value.get("href") or "")


def _first(element: Any, selector: str | None) -> str:
    if selector is None:
        return ""
    found = compile_selector(selector)(element)
    return _text(found[0]) if found else ""


def _text(value: Any) -> str:
    """Text of an element or an attribute, spaces collapsed, at most 500 characters."""
    text = value if isinstance(value, str) else "".join(value.itertext()) if len(value) else value.text or ""
    return " ".join(text.split())[:500]
