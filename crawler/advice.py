"""What is likely wrong in a site file that is valid: rules that never fit, links that are never followed.

Only what can be known from the file alone is said, and each line says what to do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from crawler.labels import LabelRule
from crawler.selectors import compile_pattern
from crawler.site import Site
from crawler.urls import absolute, host_of, netloc_of

__all__ = ["advice"]

_FLAGS = re.compile(r"\(\?[aiLmsux]+\)")
# texts as they stand on pages: what fits all of them and nothing else fits anything
_TEXTS = ("Electric Guitars / 4-String", "https://shop.example/a/b.html?x=1", "Ñandú 12,50 €", "x")
_SPECIAL = frozenset(".^$*+?{}[]\\|()")


def advice(site: Site) -> list[str]:
    """Lines about a site file, the gravest first; empty if nothing is amiss."""
    if site.url_list is not None:
        return list(_on_limits(site))
    parts: Sequence[Callable[[Site], Iterator[str]]] = (_on_hosts, _on_labels, _on_following, _on_patterns, _on_listing)
    return [line for part in (*parts, _on_limits) for line in part(site)]


def _on_hosts(site: Site) -> Iterator[str]:
    for start in site.site.start:
        url = absolute("http://none/", start)
        host = host_of(netloc_of(url)) if url else ""
        if not site.allows(host):
            yield f"[site] start {start}: its host {host} is not among [site] hosts, so nothing is fetched: add it"
    for host in site.site.allow_private:
        if not site.allows(host):
            yield f"[site] allow_private {host}: not among [site] hosts, so never called: add it there or remove it"


def _on_labels(site: Site) -> Iterator[str]:
    labels = site.labels
    if labels.by == "category":
        if labels.depth > site.follow.depth:
            yield (
                f"[labels] depth {labels.depth}: [follow] depth {site.follow.depth} leads to no category so deep, "
                "so none has a label"
            )
        return
    for number, rule in enumerate(labels.rules, start=1):
        for before, earlier in enumerate(labels.rules[: number - 1], start=1):
            if _shadows(earlier, rule):
                same = (
                    "the same label, so it can go"
                    if earlier.label == rule.label
                    else "put it first, or narrow that one"
                )
                yield (
                    f"[labels] rule {number} ({rule.label}) never decides: rule {before} ({earlier.label}) fits all "
                    f"that it fits; {same}"
                )
                break
        if rule.title and site.listing.title is None and site.listing.maker is None:
            yield f"[labels] rule {number} ({rule.label}): title never fits, for [listing] has no title and no maker"
    if len(labels.names) == 1:
        yield f"[labels] one label, {labels.names[0]}: a classifier needs two"


def _on_following(site: Site) -> Iterator[str]:
    follow = site.follow
    for name, deny, allow in (
        ("url", follow.deny_url, follow.allow_url),
        ("text", follow.deny_text, follow.allow_text),
    ):
        for pattern in deny:
            if _fits_all(pattern):
                yield f"[follow] deny_{name} {pattern!r} fits everything: no link is followed"
        for pattern in set(allow) & set(deny):
            yield f"[follow] {pattern!r} is in allow_{name} and in deny_{name}: deny wins, so it allows nothing"
    if follow.depth == 0 and (follow.allow_url or follow.allow_text or follow.deny_url or follow.deny_text):
        yield "[follow] depth 0: only the start pages are read, so the patterns of [follow] have no effect"


def _on_patterns(site: Site) -> Iterator[str]:
    """Patterns that can never be found, because texts are one line and addresses begin with http."""
    drop, follow = site.drop, site.follow
    addresses = [("[follow] allow_url", follow.allow_url), ("[follow] deny_url", follow.deny_url)]
    addresses += [("[drop] image", drop.image), ("[drop] product", drop.product)]
    addresses += [("[listing] rewrite", tuple(pattern for pattern, _ in site.listing.rewrite))]
    texts = [("[follow] allow_text", follow.allow_text), ("[follow] deny_text", follow.deny_text)]
    texts += [("[drop] title", drop.title), ("[drop] price", drop.price)]
    titles = [("[drop] title", drop.title)]
    for number, rule in enumerate(site.labels.rules, start=1):
        addresses.append((f"[labels] rule {number} url", rule.url))
        texts += [(f"[labels] rule {number} path", rule.path), (f"[labels] rule {number} title", rule.title)]
        titles.append((f"[labels] rule {number} title", rule.title))
    for name, patterns in addresses:
        for pattern in patterns:
            first = _anchored(pattern)
            if first and first.lower() != "h":
                yield (
                    f"{name} {pattern!r} never fits: addresses begin with http, not with {first!r}; "
                    "leave out the ^ or write ^https?://"
                )
            elif " " in pattern.replace("(?x)", "") and "[" not in pattern and "|" not in pattern:
                yield f"{name} {pattern!r} never fits: there are no spaces in addresses (%20 stands for one)"
    for name, patterns in texts:
        for pattern in patterns:
            if re.search(r"\\[nrtfv]|\n|\t|  ", pattern) and "|" not in pattern and "[" not in pattern:
                yield f"{name} {pattern!r} never fits: in texts, all white space is one space"
    if site.listing.maker is not None and site.listing.title is not None:
        for name, patterns in titles:
            for pattern in patterns:
                if _anchored(pattern):
                    yield f"{name} {pattern!r}: the text begins with the maker, then a space and the title"
    for name, patterns, selector in (
        ("title", drop.title, site.listing.title or site.listing.maker),
        ("price", drop.price, site.listing.price),
    ):
        if patterns and selector is None:
            yield f"[drop] {name} never fits: [listing] has no selector {name!r}"


def _on_listing(site: Site) -> Iterator[str]:
    listing = site.listing
    if listing.page is None and listing.next is None:
        yield "[listing] has neither page nor next: only the first result page of each category is read"
    within = [("link", listing.link), ("maker", listing.maker), ("title", listing.title), ("price", listing.price)]
    within += [(f"image {number}", selector) for number, selector in enumerate(listing.image, start=1)]
    for name, selector in within:
        if selector and re.match(r"xpath:\s*/", selector):
            yield f"[listing] {name} {selector!r} looks in the whole page, not in the item: write .// for //"
    sources = [selector for selector in listing.image if "set" in selector or "::attr(" not in selector]
    if listing.image_width is not None and not sources:
        yield "[listing] image_width has no effect: no image selector takes a srcset or an element"
    for number, selector in enumerate(listing.image[:-1], start=1):
        if selector in listing.image[number:]:
            yield f"[listing] image {number} {selector!r} is there twice"


def _on_limits(site: Site) -> Iterator[str]:
    limits = site.limits
    public = site.url_list is not None or set(site.hosts) - set(site.site.allow_private)
    if limits.rate_per_host == 0 and public:
        at_once = min(limits.per_host, limits.concurrency)
        yield f"[limits] rate_per_host 0: {at_once} requests at once, as fast as a public host answers: set a rate"
    if limits.per_host > limits.concurrency:
        yield f"[limits] per_host {limits.per_host} is more than concurrency {limits.concurrency}, which then binds"


def _shadows(earlier: LabelRule, later: LabelRule) -> bool:
    """Whether whatever the later rule fits, the earlier one fits; False where it cannot be known."""
    if any(map(_fits_all, (*earlier.path, *earlier.url))):
        return True
    for name in ("path", "url", "title"):
        before = getattr(earlier, name)
        for pattern in getattr(later, name):
            literal = _literal(pattern)
            known = pattern in before or any(map(_fits_all, before))
            if not known and not (literal and any(_plain_part(one, literal) for one in before)):
                return False
    return True


def _plain_part(pattern: str, literal: str) -> bool:
    """Whether a pattern is plain text that is part of `literal`, so that it fits wherever that does."""
    text = _literal(pattern)
    return bool(text) and compile_pattern(pattern).search(literal) is not None


def _literal(pattern: str) -> str | None:
    """The text of a pattern that is nothing but text, perhaps with flags before it."""
    flags = _FLAGS.match(pattern)
    text = pattern[flags.end() :] if flags else pattern
    # a later pattern that ignores case fits more than its own spelling
    return None if _SPECIAL & set(text) or not text else text


def _fits_all(pattern: str) -> bool:
    return all(compile_pattern(pattern).fullmatch(text) or pattern in ("", "(?i)") for text in _TEXTS)


def _anchored(pattern: str) -> str | None:
    """The plain character that a pattern wants at the very beginning, if it wants one."""
    match = re.match(r"(?:\(\?[aiLmsux]+\))?(?:\^|\\A)(\\?)(.)", pattern)
    if not match or "|" in pattern:
        return None
    escaped, first = match[1], match[2]
    if escaped:
        return first if not first.isalnum() else None
    after = pattern[match.end() : match.end() + 1]
    return None if first in _SPECIAL or after in ("?", "*", "{") else first
