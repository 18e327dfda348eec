"""`bassline crawl --check` and `--try`: what a site file does, and what it finds on one page."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from rich.table import Table

from bassline import console
from shards.errors import BasslineError, ConfigError

if TYPE_CHECKING:
    from crawler.site import Site
    from crawler.trial import Trial, TriedItem

__all__ = ["check", "try_url"]

_ITEMS, _LINKS = 5, 40


class NotTried(BasslineError):
    """The page to try cannot be had."""


def check(site: Site, name: str, *, json: bool) -> None:
    """Says in plain words what a site file does, and what is likely wrong with it."""
    from crawler.advice import advice

    warnings = advice(site)
    if json:
        console.emit({"site": site.site.name, "digest": site.digest, **_plain(site), "warnings": warnings})
        return
    shown = console.out
    shown.print(
        f"[bold]{console.literal(site.site.name)}[/] {console.literal(site.site.version)} ({console.literal(name)})"
    )
    for line in _story(site):
        shown.print(f"  {console.literal(line)}", soft_wrap=True)
    if site.url_list is None:
        if follow_rows := _follow_rows(site):
            table = _table("Category links", "followed", "where", "pattern")
            for row in follow_rows:
                table.add_row(*map(console.literal, row))
            shown.print(table)
        if site.labels.by == "rules":
            shown.print(_label_table(site))
        shown.print(_listing_table(site))
    drops = _drops(site)
    if drops:
        table = _table("Left out", "what", "pattern")
        for what, pattern in drops:
            table.add_row(console.literal(what), console.literal(pattern))
        shown.print(table)
    for line in warnings:
        shown.print(f"[yellow]![/] {console.literal(line)}", soft_wrap=True)
    shown.print("[green]✓[/] nothing amiss" if not warnings else f"{len(warnings)} to look at", soft_wrap=True)


def try_url(site: Site, url: str, *, path: str | None, json: bool) -> None:
    """Fetches one page and shows what the site file finds on it.

    Raises:
        ConfigError: `url` is no address.
        NotTried: the page cannot be had.
    """
    from crawler.crawl_errors import Refused
    from crawler.trial import try_page
    from crawler.urls import absolute

    if site.url_list is not None:
        raise ConfigError("--try", "", "a list has no pages to try; --check shows what would be done with it")
    address = absolute("http://none/", url) if "//" in url else None
    if address is None:
        raise ConfigError("--try", "", f"{url!r} is not an http(s) address")
    names = tuple(name.strip() for name in path.split(" / ")) if path else ()
    try:
        trial = asyncio.run(try_page(site, address, path=names))
    except Refused as refused:
        hint = "; add its host to [site] hosts" if refused.reason == "foreign-host" else ""
        hint = "; [site] allow_private names hosts that may have one" if refused.reason == "address" else hint
        raise NotTried(f"{address}: cannot be had: {refused}{hint}") from None
    if json:
        console.emit(trial.to_json())
    else:
        _draw(site, trial)


def _draw(site: Site, trial: Trial) -> None:
    shown = console.out
    moved = f" -> {trial.final_url}" if trial.final_url != trial.url else ""
    shown.print(f"[bold]{console.literal(trial.url + moved)}[/]", soft_wrap=True)
    shown.print(f"  {console.literal(trial.content_type or 'no Content-Type')}, {trial.bytes:,} bytes")
    known = " / ".join(trial.path)
    where = known or "not known from one page (--path 'A / B' says it); rules by path see none"
    shown.print(f"  path: {console.literal(where)}", soft_wrap=True)
    items = len(trial.items)
    table = _table("What each selector finds", "key", "found", "first", right=("found",))
    for found in trial.found:
        count = f"{found.count:,}" if found.items is None else f"{found.count:,} in {found.items} of {items}"
        style = "" if found.count else "yellow"
        table.add_row(found.key, count, _lines(*(found.first or (f"nothing: {found.selector}",))), style=style)
    shown.print(table)
    if trial.items:
        table = _table(f"Items ({min(items, _ITEMS)} of {items})", "item, its link and its image", "label", "then")
        for item in trial.items[:_ITEMS]:
            lines = (f"{item.maker} {item.title}".strip() or "(no title)", item.url, item.image or "(no image)")
            table.add_row(_lines(*lines), *map(console.literal, (_label(site, item), item.fate)))
        shown.print(table)
        fates: dict[str, int] = {}
        for item in trial.items:
            fates[item.fate] = fates.get(item.fate, 0) + 1
        counts = ", ".join(f"{count:,} {fate}" for fate, count in sorted(fates.items(), key=lambda one: -one[1]))
        shown.print(f"items: {console.literal(counts)}", soft_wrap=True)
    if trial.image:
        shown.print(f"first image: {console.literal(trial.image)}", soft_wrap=True)
    paged = site.listing.page is not None or site.listing.next is not None
    following = trial.next_page or ("none" if paged else "[listing] has neither page nor next")
    shown.print(f"next page: {console.literal(following)}", soft_wrap=True)
    followed = sum(link.why_not is None for link in trial.links)
    if trial.links:
        table = _table(f"Category links ({followed} of {len(trial.links)} followed)", "link", "followed", "label")
        for link in trial.links[:_LINKS]:
            label = link.label or ("by its products" if link.label == "" else "-")
            why = f"no: {link.why_not}" if link.why_not else "yes"
            table.add_row(_lines(link.text, link.url), *map(console.literal, (why, "" if link.why_not else label)))
        shown.print(table)
        if len(trial.links) > _LINKS:
            shown.print(f"and {len(trial.links) - _LINKS} more links")


def _lines(*texts: str) -> str:
    return "\n".join(map(console.literal, texts))


def _table(title: str, *columns: str, right: tuple[str, ...] = ()) -> Table:
    """A table whose cells are folded, never cut: an address that ends in dots cannot be copied."""
    table = console.table(title, *columns, right=right)
    for column in table.columns:
        column.overflow = "fold"
    return table


def _label(site: Site, item: TriedItem) -> str:
    if item.label is None:
        return "-"
    if item.rule is None:
        return item.label
    also = ", ".join(f"{number} ({site.labels.rules[number - 1].label})" for number in item.also)
    return f"{item.label} (rule {item.rule}{f'; {also} fits too' if also else ''})"


def _story(site: Site) -> list[str]:
    """The site file in sentences."""
    limits = site.limits
    rate = f"{limits.rate_per_host:g} requests a second" if limits.rate_per_host else "as many requests as it answers"
    exact = [host for host in site.hosts if not set("*?") & set(host)]
    lines = []
    if site.url_list is not None:
        table = site.url_list
        label = f"column {table.label!r}" if table.label else "column 'label', or \"unlabelled\" without it"
        lines += [
            f"reads the list {table.path}: addresses in column {table.url!r}, labels in {label}",
            f"calls {', '.join(site.hosts) or 'whatever host the list names, but no private address'}",
        ]
    else:
        follow, listing = site.follow, site.listing
        lines += [f"begins at {', '.join(site.site.start)}", f"calls only {', '.join(site.hosts)}"]
        most = f"{follow.max_categories:,} categories at most"
        lines.append(f"follows the links {follow.links!r} down to {follow.depth} levels, {most}")
        if listing.page:
            lines.append(f"reads each category's result pages by {listing.page!r}, {listing.max_pages:,} at most")
        elif listing.next:
            lines.append(f"reads result pages on by the link {listing.next!r}, {listing.max_pages:,} at most")
        else:
            lines.append("reads one result page of each category")
        if site.labels.by == "category":
            lines.append(f"labels a product by name {site.labels.depth} of its category's path")
        policy = {
            "drop": "is left out",
            "first-rule": "gets the one whose rule stands first",
            "deepest": "gets that of the deepest category, and is left out if two are as deep",
        }
        lines.append(f"a product found under two labels {policy[site.labels.conflict]}")
    if site.site.allow_private:
        lines.append(f"may call private addresses of {', '.join(site.site.allow_private)}")
    at_once = min(limits.per_host, limits.concurrency)
    lines.append(f"sends a host at most {rate}, {at_once} at once; {limits.concurrency} at once in all")
    if limits.rate_per_host and site.url_list is None and len(exact) == len(site.hosts):
        in_all = limits.rate_per_host * len(exact)
        lines.append(f"so at most {in_all:g} requests a second in all: 10,000 images of one host take "
                     f"{console.seconds(10_000 / limits.rate_per_host)} or more")  # fmt: skip
    return lines


def _follow_rows(site: Site) -> list[tuple[str, str, str]]:
    named = (("only if", "allow"), ("not if", "deny"))
    return [
        (followed, where, pattern)
        for followed, name in named
        for where in ("url", "text")
        for pattern in getattr(site.follow, f"{name}_{where}")
    ]


def _label_table(site: Site) -> Any:
    table = _table("Label rules, the first that fits decides", "rule", "label", "where", "pattern", right=("rule",))
    for number, rule in enumerate(site.labels.rules, start=1):
        for name in ("path", "url", "title"):
            for pattern in getattr(rule, name):
                table.add_row(str(number), console.literal(rule.label), name, console.literal(pattern))
    return table


def _listing_table(site: Site) -> Table:
    listing = site.listing
    rows = [("item", listing.item), ("link", listing.link)]
    rows += [(f"image {number}", selector) for number, selector in enumerate(listing.image, start=1)]
    rows += [(name, getattr(listing, name)) for name in ("maker", "title", "price", "breadcrumb")]
    table = _table("A result page", "what", "selector")
    for what, selector in rows:
        if selector is not None:
            table.add_row(what, console.literal(selector))
    if listing.image_width is not None:
        table.add_row("srcset", f"the smallest at least {listing.image_width} wide, or else the widest")
    for pattern, replacement in listing.rewrite:
        table.add_row("image address", console.literal(f"{pattern} becomes {replacement}"))
    for name in listing.ignore_parameters:
        table.add_row("link", console.literal(f"without its parameter {name}"))
    return table


def _drops(site: Site) -> list[tuple[str, str]]:
    drop = site.drop
    named = [("image address", drop.image), ("title", drop.title), ("product address", drop.product)]
    found = [(what, pattern) for what, patterns in [*named, ("price", drop.price)] for pattern in patterns]
    found.append(("side", f"under {drop.min_side} or over {drop.max_side:,} pixels"))
    found.append(("placeholder", f"one image for {drop.placeholder_at} products or more"))
    return found


def _plain(site: Site) -> dict[str, Any]:
    tables = site.model_dump(mode="json", by_alias=True, exclude={"list"} if site.url_list is None else set())
    tables["name"] = tables.pop("site")
    return {"hosts": list(site.hosts), "story": _story(site), "file": {"site": tables.pop("name"), **tables}}
