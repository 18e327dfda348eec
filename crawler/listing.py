"""What the products of a result page are to the crawl: their label there, and whether a rule drops them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from crawler.extract import Item
from crawler.site import Decision, Site

__all__ = ["Listed", "judged"]


class Listed(NamedTuple):
    """A product where a result page lists it: what the label rules say of it there, and the rule that drops it."""

    item: Item
    decision: Decision
    dropped: str | None = None

    @property
    def label(self) -> str:
        """Its label there, "" if it has none."""
        return self.decision.label or ""

    @property
    def usable(self) -> bool:
        """Whether its image is to be fetched."""
        return self.item.image is not None and self.dropped is None and self.label != ""


def judged(site: Site, items: Iterable[Item], path: Sequence[str], url: str) -> list[Listed]:
    """Applies label and drop rules to the products of a result page.

    Args:
        path: names of the category's path, from the top down.
        url: the category's address.
    """
    of_category = site.decide(path, url)
    found = []
    for item in items:
        title = f"{item.maker} {item.title}".strip()
        dropped = site.drop.rule(image=item.image, title=title, product=item.url, price=item.price)
        decision = site.decide(path, url, title) if site.labels.by_title else of_category
        found.append(Listed(item, decision, dropped))
    return found
