"""What the server needs to know of a shop, so that a drawn catalogue and a folder of photographs are served alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

__all__ = ["Article", "Shelf", "Stock"]


class Article(Protocol):
    """A product as its pages show it."""

    @property
    def id(self) -> int: ...
    @property
    def maker(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def price_cents(self) -> int: ...
    @property
    def categories(self) -> tuple[str, ...]: ...
    @property
    def photo(self) -> bool: ...


class Shelf(Protocol):
    """A category; `parent` is a slug, None at the top."""

    @property
    def slug(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def parent(self) -> str | None: ...


class Stock(Protocol):
    """Everything a shop sells, in the shop's own order."""

    @property
    def categories(self) -> Sequence[Shelf]: ...
    @property
    def products(self) -> Sequence[Article]: ...
