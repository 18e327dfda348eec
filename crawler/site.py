"""The site file: everything the crawler knows about one shop. Another shop is another file, not more code."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from lxml import etree  # type: ignore[import-untyped]
from parsel.csstranslator import HTMLTranslator
from pydantic import AfterValidator, Field, model_validator

from crawler.limits import Limits
from crawler.urls import absolute
from shards.errors import ConfigError
from shards.toml_file import StrictModel, merge, read_toml, validate

__all__ = [
    "Drop",
    "Follow",
    "LabelRule",
    "Labels",
    "Listing",
    "Pattern",
    "Selector",
    "Site",
    "SiteName",
    "compile_pattern",
    "compile_selector",
    "load_site",
]


@lru_cache(maxsize=256)
def compile_selector(selector: str) -> Callable[[Any], Any]:
    """Compiles a selector: CSS with parsel's ::text and ::attr(name), or XPath after "xpath:".

    Raises:
        ValueError: it is neither.
    """
    try:
        xpath = selector.removeprefix("xpath:") if selector.startswith("xpath:") else _CSS.css_to_xpath(selector)
        compiled: Callable[[Any], Any] = etree.XPath(xpath)
    except Exception as error:  # cssselect and lxml have no common base for what can be wrong with a selector
        raise ValueError(f"not a selector: {error}") from None
    return compiled


@lru_cache(maxsize=256)
def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compiles a regular expression; searched for, not matched from the start.

    Raises:
        ValueError: it is none.
    """
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None


_CSS = HTMLTranslator()


def _checked(check: Callable[[str], Any]) -> AfterValidator:
    def run(value: str) -> str:
        check(value)
        return value

    return AfterValidator(run)


Selector = Annotated[str, Field(min_length=1), _checked(compile_selector)]
Pattern = Annotated[str, _checked(compile_pattern)]


class SiteName(StrictModel):
    """[site]: what it is called, where it begins and where it may go."""

    name: str = Field(min_length=1)
    version: str = "1"
    start: tuple[str, ...] = Field(min_length=1)
    hosts: tuple[str, ...] = Field(
        default=(), description="hosts that may be called, * for any part; by default those of start"
    )
    allow_private: tuple[str, ...] = Field(default=(), description="hosts that may have private addresses")
    agent: str = Field(default="bassline", pattern=r"^[A-Za-z_-]+$", description="our name in robots.txt")
    user_agent: str = "bassline/0.1 (image data set crawler)"

    @model_validator(mode="after")
    def _starts_are_addresses(self) -> SiteName:
        for start in self.start:
            if absolute("http://none/", start) is None or "//" not in start:
                raise ValueError(f"start: not an http(s) address: {start!r}")
        return self


class Follow(StrictModel):
    """[follow]: which category links are explored, by patterns; deny wins, an empty allow is everything."""

    links: Selector
    depth: int = Field(default=8, ge=0, le=50)
    allow_url: tuple[Pattern, ...] = ()
    deny_url: tuple[Pattern, ...] = ()
    allow_text: tuple[Pattern, ...] = ()
    deny_text: tuple[Pattern, ...] = ()
    max_categories: int = Field(default=20_000, ge=1)


class LabelRule(StrictModel):
    """[[labels.rules]]: a category gets `label` if a pattern is found in its path ("Basses / 4-String") or URL."""

    label: str = Field(min_length=1)
    path: tuple[Pattern, ...] = ()
    url: tuple[Pattern, ...] = ()


class Labels(StrictModel):
    """[labels]: rules in order, the first that fits wins, or every category is a label of its own.

    With rules, labels are numbered in the order they first stand in the file; by category, in the order of their names.
    """

    by: Literal["rules", "category"] = "rules"
    depth: int = Field(default=1, ge=1, description="by category: which part of the path is the label")
    rules: tuple[LabelRule, ...] = ()

    @model_validator(mode="after")
    def _rules_or_category(self) -> Labels:
        if self.by == "rules" and not self.rules:
            raise ValueError('no rules: add [[labels.rules]], or set by = "category"')
        return self


class Listing(StrictModel):
    """[listing]: how a result page is read. `image` lists candidates in order of preference."""

    item: Selector
    link: Selector
    image: tuple[Selector, ...] = Field(min_length=1)
    maker: Selector | None = None
    title: Selector | None = None
    price: Selector | None = None
    page: str | None = Field(default=None, description='query of result page {page}, such as "?pg={page}&ls=100"')
    next: Selector | None = None
    max_pages: int = Field(default=1000, ge=1)
    ignore_parameters: tuple[str, ...] = Field(default=(), description="parameters that make no other product")
    rewrite: tuple[tuple[Pattern, str], ...] = Field(default=(), description="patterns, replacements on image URLs")

    @model_validator(mode="after")
    def _one_way_to_the_next_page(self) -> Listing:
        if self.page is not None and self.next is not None:
            raise ValueError("page and next: give one of them")
        for pattern, replacement in self.rewrite:
            try:
                compile_pattern(f"(?:{pattern})|").sub(replacement, "")
            except (re.error, IndexError) as error:
                raise ValueError(f"rewrite: {replacement!r} is no replacement for {pattern!r}: {error}") from None
        if self.page is not None and "{page}" not in self.page:
            raise ValueError('page: expected {page} in it, such as "?pg={page}"')
        return self


class Drop(StrictModel):
    """[drop]: what is left out, and what counts as no photograph."""

    image: tuple[Pattern, ...] = Field(default=(), description="patterns on image addresses")
    title: tuple[Pattern, ...] = ()
    min_side: int = Field(default=32, ge=1, description="pixels")
    max_side: int = Field(default=8192, ge=1, le=9_000, description="pixels; squared, under Pillow's bomb limit")
    placeholder_at: int = Field(default=5, ge=2, description="so many products to an image are no photo")


class Site(StrictModel):
    """A site file, resolved."""

    site: SiteName
    follow: Follow
    labels: Labels
    listing: Listing
    drop: Drop = Drop()
    limits: Limits = Limits()

    @property
    def digest(self) -> str:
        """16 hex digits over everything but [limits]: going on more slowly is the same crawl."""
        content = self.model_dump(mode="json", exclude={"limits"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def allows(self, host: str) -> bool:
        """Whether a host belongs to the crawl."""
        return any(fnmatch.fnmatchcase(host, pattern) for pattern in self._hosts())

    def _hosts(self) -> Sequence[str]:
        return self.site.hosts or [urlsplit(start).hostname or "" for start in self.site.start]

    def label_of(self, path: Sequence[str], url: str) -> str | None:
        """The label of a category, None if it is not to be listed.

        Args:
            path: names of the categories from the start page down.
            url: its address.
        """
        if self.labels.by == "category":
            return path[self.labels.depth - 1] if len(path) >= self.labels.depth else None
        joined = " / ".join(path)
        for rule in self.labels.rules:
            if _any(rule.path, joined) or _any(rule.url, url):
                return rule.label
        return None

    def follows(self, text: str, url: str) -> bool:
        """Whether a category link is explored."""
        follow = self.follow
        if _any(follow.deny_url, url) or _any(follow.deny_text, text):
            return False
        return not (
            (follow.allow_url and not _any(follow.allow_url, url))
            or (follow.allow_text and not _any(follow.allow_text, text))
        )


def load_site(source: Path | str, **overrides: Mapping[str, Any]) -> Site:
    """Reads a site file, or one of those that come with the crawler by its bare name ("thomann", "embedded", "folder").

    `extends = "name"` begins with another site file; tables are merged, everything else is replaced.

    Args:
        source: path or bare name.
        overrides: tables to merge over the file, such as `site={"start": [url]}`.

    Raises:
        ConfigError: the file is missing or wrong; names file, key and what was expected.
    """
    where = str(source)
    data = merge(_resolved(source, ()), overrides)
    return validate(Site, data, where)


def _resolved(source: Path | str, seen: tuple[str, ...]) -> dict[str, Any]:
    path = _path_of(source)
    if str(path) in seen:
        raise ConfigError(str(source), "extends", f"goes in a circle: {' -> '.join((*seen, str(path)))}")
    data = read_toml(path)
    parent = data.pop("extends", None)
    if parent is None:
        return data
    if not isinstance(parent, str):
        raise ConfigError(str(source), "extends", f"expected the name or path of a site file, not {parent!r}")
    if parent.endswith(".toml"):
        parent = path.parent / parent
    return merge(_resolved(parent, (*seen, str(path))), data)


def _path_of(source: Path | str) -> Path:
    if isinstance(source, str) and re.fullmatch(r"[A-Za-z0-9_-]+", source):
        builtin = Path(str(resources.files("crawler") / "sites"))
        path = builtin / f"{source}.toml"
        if not path.exists():
            known = ", ".join(sorted(file.stem for file in builtin.glob("*.toml")))
            raise ConfigError(source, "", f"no site file of that name comes with the crawler; known: {known}")
        return path
    return Path(source)


def _any(patterns: Sequence[str], text: str) -> bool:
    return any(compile_pattern(pattern).search(text) for pattern in patterns)
