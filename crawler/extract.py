"""From a page to what stands on it: category links, products with their thumbnails, the next page.

Selectors are compiled once and run on lxml's tree: 100 items cost 3 ms, where a Selector object an item would cost 50.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from lxml import etree  # type: ignore[import-untyped]

from crawler.selectors import compile_pattern, found_by, found_in_each
from crawler.site import Listing
from crawler.urls import absolute, without_parameters

__all__ = [
    "Item",
    "Link",
    "Tree",
    "addresses",
    "breadcrumb",
    "items",
    "links",
    "next_page",
    "page_number",
    "parse",
    "srcset",
    "text_of",
]

MAX_LINKS = 10_000  # of one page; a page with more is no category page
MAX_ITEMS = 1_000
_EMPTY = b"<html></html>"
MAX_CANDIDATES = 32  # of one image
MAX_CRUMBS = 50
_SEPARATORS = " />»›→|·"  # that stand between breadcrumbs
_READ_CHARS = 5_000  # of an element's text, of which 500 are kept once its white space is collapsed
_SPACES, _SPACES_AND_COMMA = re.compile(r"[ \t\r\n\f]+"), " \t\r\n\f,"  # HTML's, not Python's twenty more
_WIDTH = re.compile(r"(?:^|\s)([0-9]{1,6})w(?:\s|$)")
_DESCRIBED = re.compile(r"\s[0-9.]+[wx]\s*(?:,|$)")
# in this order; what scripts of shops and of WordPress, Magento, Shopify and PrestaShop put into src
_LAZY = ("data-srcset", "data-lazy-srcset", "data-src", "data-lazy-src", "data-lazy", "data-original", "data-echo")


class Link(NamedTuple):
    """A link and its text."""

    url: str
    text: str


class Item(NamedTuple):
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
    charset = content_type.lower().partition("charset=")[2].partition(";")[0].strip(" '\"") or "utf-8"
    try:
        text = body.decode(charset, "replace")
    except (LookupError, ValueError):  # no charset, one that is none of text, or one that knows no "replace"
        text = body.decode("utf-8", "replace")
    # by way of text, because libxml2 ends a page at bytes that its charset does not know
    clean = text.replace("\0", "").strip().encode("utf-8", "replace") or _EMPTY
    try:
        root = etree.fromstring(clean, parser=etree.HTMLParser(encoding="utf-8", huge_tree=False))
    except etree.XMLSyntaxError:  # nothing in it that is an element
        root = None
    if root is None:
        root = etree.fromstring(_EMPTY, parser=etree.HTMLParser())
    bases = root.xpath("descendant-or-self::base/@href")
    return Tree(root, (absolute(url, str(bases[0])) if bases else None) or url)


def links(tree: Tree, selector: str, text: str | None = None) -> list[Link]:
    """The links that `selector` finds, in the order of the page, each address once.

    Args:
        text: selector of a link's name inside it; without, or where it finds nothing, all its text is.
    """
    found: dict[str, Link] = {}
    for element in found_by(selector, tree.root)[:MAX_LINKS]:
        url = absolute(tree.base, element.get("href") or "") if hasattr(element, "get") else None
        if url is not None and url not in found:
            found[url] = Link(url, _first(element, text) or text_of(element))
    return list(found.values())


def items(tree: Tree, listing: Listing) -> list[Item]:
    """The products on a result page, in its order. One without a link goes by its image; others are passed over."""
    ignored = frozenset(listing.ignore_parameters)
    # XPath may find texts where the site file meant elements
    elements = [one for one in found_by(listing.item, tree.root)[:MAX_ITEMS] if hasattr(one, "iter")]
    wanted = dict.fromkeys((listing.link, *listing.image, listing.maker, listing.title, listing.price))
    inside = {selector: found_in_each(selector, tree.root, elements) for selector in wanted if selector is not None}
    found: list[Item] = []
    for element in elements:

        def of(selector: str | None, element: Any = element) -> list[Any]:
            return [] if selector is None else inside[selector].get(element, [])

        image = _image(tree.base, [of(selector) for selector in listing.image], listing)
        url = next(filter(None, (absolute(tree.base, _href(value)) for value in of(listing.link))), None)
        url = without_parameters(url, ignored) if url else image
        if url is not None:
            texts = (text_of(next(iter(of(name)), "")) for name in (listing.maker, listing.title, listing.price))
            found.append(Item(url, image, *texts))
    return found


def next_page(tree: Tree, selector: str) -> str | None:
    """The address that the next-page link has."""
    return next(filter(None, (absolute(tree.base, _href(value)) for value in found_by(selector, tree.root))), None)


def page_number(category: str, template: str, page: int) -> str:
    """The address of a category's result page by a template such as "?pg={page}&ls=100"; other parameters are kept."""
    parts = urlsplit(category)
    query = "&".join(filter(None, (parts.query, template.lstrip("?&").replace("{page}", str(page)))))
    return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))


def breadcrumb(tree: Tree, listing: Listing) -> tuple[str, ...]:
    """The names that [listing] breadcrumb finds, from the top down; empty without."""
    if listing.breadcrumb is None:
        return ()
    found = (text_of(value).strip(_SEPARATORS) for value in found_by(listing.breadcrumb, tree.root)[:MAX_CRUMBS])
    return tuple(filter(None, found))


def srcset(value: str) -> Iterator[tuple[str, int | None]]:
    """The addresses in a srcset attribute, each with its width in pixels where it says one ("150w").

    A plain address is a srcset of one; commas inside an address are kept (HTML, 4.8.4.2.2).
    """
    rest = value.strip(_SPACES_AND_COMMA)
    while rest:
        pieces = _SPACES.split(rest, maxsplit=1)
        address, rest = pieces[0], pieces[1] if len(pieces) > 1 else ""
        if address.endswith(","):
            yield address.rstrip(","), None
        else:
            descriptors, _, rest = rest.partition(",")
            width = _WIDTH.search(descriptors)
            yield address, int(width[1]) if width else None
        rest = rest.strip(_SPACES_AND_COMMA)


def addresses(value: str, attribute: str | None, width: int | None) -> list[str]:
    """The addresses that an attribute's value holds, the one to take first.

    Args:
        value: the value.
        attribute: its name, None if it is not known; all of a value that is no srcset is one address.
        width: pixels that are wanted: the smallest candidate at least so wide comes first, or else the widest. Without,
            or where the srcset says no widths, the order is the page's.
    """
    if attribute is not None and not attribute.endswith("set") and not _DESCRIBED.search(value):
        return [value]
    found = list(islice(srcset(value), MAX_CANDIDATES))
    if width is not None and any(wide for _, wide in found):
        wanted = width
        found.sort(key=lambda one: (one[1] is None, (one[1] or 0) < wanted, abs((one[1] or 0) - wanted)))
    return [address for address, _ in found]


def _image(base: str, candidates: Sequence[Sequence[Any]], listing: Listing) -> str | None:
    """The address to take of what each of [listing] image found, the best selector first."""
    for found in candidates:
        for value in found[:MAX_CANDIDATES]:
            values = [(getattr(value, "attrname", None), str(value))] if isinstance(value, str) else _lazy(value)
            for attribute, text in values:
                for candidate in addresses(text, attribute, listing.image_width):
                    url = absolute(base, candidate)
                    if url is not None:
                        if not listing.rewrite:
                            return url
                        for pattern, replacement in listing.rewrite:
                            url = compile_pattern(pattern).sub(replacement, url)
                        if (url := absolute(base, url)) is not None:
                            return url
    return None


def _lazy(element: Any) -> list[tuple[str | None, str]]:
    """The attributes of an image element that hold its address, best first.

    What a script would put in comes before `src`, which then holds a stand-in; of a `picture`, its sources come before
    its `img`; a `noscript` beside a lazy `img` has the address for those without scripts, so it comes before `src` too.
    """
    found: list[tuple[str | None, str]] = []
    plain: list[tuple[str | None, str]] = []
    inner = list(islice(element.iter("source", "img"), MAX_CANDIDATES)) or [element]
    after = element.getnext()
    if element.tag == "img" and after is not None and after.tag == "noscript":
        inner += islice(after.iter("img"), MAX_CANDIDATES)
    for one in inner:
        lazy = [(name, one.get(name)) for name in _LAZY if one.get(name)]
        found += lazy
        in_noscript = one is not element and one.getparent() is not None and one.getparent().tag == "noscript"
        usual = [(name, one.get(name)) for name in ("srcset", "src", "href") if one.get(name)]
        (found if in_noscript or one.tag == "source" else plain).extend(usual)
    return found + plain


def _href(value: Any) -> str:
    return value if isinstance(value, str) else str(value.get("href") or "")


def _first(element: Any, selector: str | None) -> str:
    if selector is None:
        return ""
    found = found_by(selector, element)
    return text_of(found[0]) if found else ""


def text_of(value: Any) -> str:
    """Text of an element or an attribute, spaces collapsed, at most 500 characters."""
    if isinstance(value, str):
        text = value[:_READ_CHARS]
    elif len(value):
        pieces, size = [], 0
        for piece in value.itertext():  # not all of it: the whole page may be below
            pieces.append(piece)
            size += len(piece)
            if size > _READ_CHARS:
                break
        text = "".join(pieces)[:_READ_CHARS]
    else:
        text = (value.text or "")[:_READ_CHARS]
    return " ".join(text.split())[:500]
