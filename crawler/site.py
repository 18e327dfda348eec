"""The site file: everything the crawler knows about one shop. Another shop is another file, not more code."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from crawler.labels import Decision, LabelRule, Labels
from crawler.limits import Limits
from crawler.selectors import NodeSelector, Pattern, Selector, compile_pattern, compile_selector
from crawler.url_list import UrlList
from crawler.urls import absolute, ascii_host, host_of, netloc_of
from shards.errors import ConfigError
from shards.toml_file import StrictModel, merge, read_toml, validate

__all__ = [
    "Decision",
    "Drop",
    "Follow",
    "LabelRule",
    "Labels",
    "Listing",
    "Site",
    "SiteName",
    "compile_pattern",
    "compile_selector",
    "list_site",
    "load_site",
]


class SiteName(StrictModel):
    """[site]: what it is called, where it begins and where it may go."""

    name: str = Field(min_length=1)
    version: str = "1"
    start: tuple[str, ...] = Field(default=(), description="addresses of pages; a [list] has none")
    hosts: tuple[str, ...] = Field(
        default=(), description="hosts that may be called, * for any part; by default those of start"
    )
    allow_private: tuple[str, ...] = Field(default=(), description="hosts that may have private addresses")
    agent: str = Field(default="bassline", pattern=r"^[A-Za-z_-]+$", description="our name in robots.txt")
    user_agent: str = "bassline/0.1 (image data set crawler)"

    @field_validator("hosts", "allow_private")
    @classmethod
    def _as_in_addresses(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        """Lower case, and other scripts as in the DNS (xn--), because the hosts of addresses are written so."""
        return tuple(map(_host_pattern, hosts))

    @model_validator(mode="after")
    def _starts_are_addresses(self) -> SiteName:
        for start in self.start:
            if absolute("http://none/", start) is None or "//" not in start:
                raise ValueError(f"start: not an http(s) address: {start!r}")
        return self


class Follow(StrictModel):
    """[follow]: which category links are explored, by patterns; deny wins, an empty allow is everything."""

    links: NodeSelector
    text: Selector | None = Field(default=None, description="inside a link: its name; without, all its text is")
    depth: int = Field(default=8, ge=0, le=50)
    allow_url: tuple[Pattern, ...] = ()
    deny_url: tuple[Pattern, ...] = ()
    allow_text: tuple[Pattern, ...] = ()
    deny_text: tuple[Pattern, ...] = ()
    max_categories: int = Field(default=20_000, ge=1, description="known categories; further links are reported")


class Listing(StrictModel):
    """[listing]: how a result page is read.

    `image` lists candidates in order of preference. A selector of attributes takes them as they are (srcset
    understood); one of elements (`img`, `picture`) takes the best attribute that the element has, lazy ones first.
    """

    item: NodeSelector
    link: Selector
    image: tuple[Selector, ...] = Field(min_length=1)
    image_width: int | None = Field(
        default=None,
        ge=1,
        description="of a srcset with widths: the smallest at least so wide, or else the widest; without, the first",
    )
    maker: Selector | None = None
    title: Selector | None = None
    price: Selector | None = None
    breadcrumb: Selector | None = Field(
        default=None, description="names from the top down; where found, they are the path that label rules see"
    )
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


def _is_fingerprint(value: str) -> str:
    from shards.duplicates import HASH_BITS  # numpy and Pillow: 0.3 s

    if not re.fullmatch(rf"[0-9a-f]{{64}}|[0-9a-f]{{{HASH_BITS // 4}}}", value.lower()):
        raise ValueError(f"expected 64 (sha256) or {HASH_BITS // 4} (dhash) hex digits, not {len(value)} characters")
    return value.lower()


Fingerprint = Annotated[str, AfterValidator(_is_fingerprint)]


class Drop(StrictModel):
    """[drop]: what is left out, and what counts as no photograph."""

    image: tuple[Pattern, ...] = Field(default=(), description="patterns on image addresses")
    title: tuple[Pattern, ...] = Field(default=(), description="patterns on maker and title")
    product: tuple[Pattern, ...] = Field(default=(), description="patterns on product addresses")
    price: tuple[Pattern, ...] = Field(default=(), description="patterns on the price as the page shows it")
    min_side: int = Field(default=32, ge=1, description="pixels")
    max_side: int = Field(default=8192, ge=1, le=9_000, description="pixels; squared, under Pillow's bomb limit")
    max_aspect: float = Field(default=0.0, ge=0, description="long side to short side at most; 0 is no limit")
    placeholder_at: int = Field(default=5, ge=2, description="so many products of a host to an image are no photo")
    placeholder: tuple[Fingerprint, ...] = Field(
        default=(), description="known placeholders: sha256 (64 hex digits) of the bytes, or dhash (288) for near ones"
    )
    mislabelled: bool = Field(default=False, description="drop images whose Content-Type names another image type")
    near_duplicates: bool = Field(default=False, description="of nearly equal images keep the first only")

    def rule(self, *, image: str | None, title: str, product: str, price: str) -> str | None:
        """The rule that a product falls under, in words; None if none does."""
        looked_at = (
            ("image address", self.image, image or ""),
            ("title", self.title, title),
            ("product address", self.product, product),
            ("price", self.price, price),
        )
        for what, patterns, text in looked_at:
            for pattern in patterns if text else ():
                if compile_pattern(pattern).search(text):
                    return f"{what} matches {pattern}"
        return None


# what stands in the place of a table that a list does not need
_NO_FOLLOW = Follow(links="a")
_NO_LISTING = Listing(item="a", link="a", image=("img",))


class Site(StrictModel):
    """A site file, resolved."""

    site: SiteName
    follow: Follow = _NO_FOLLOW
    labels: Labels = Labels(by="category")
    listing: Listing = _NO_LISTING
    url_list: UrlList | None = Field(default=None, alias="list")
    drop: Drop = Drop()
    limits: Limits = Limits()

    @model_validator(mode="before")
    @classmethod
    def _pages_or_a_list(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        if data.get("list") is None:
            missing = [f"[{name}]" for name in ("follow", "labels", "listing") if name not in data]
            named = isinstance(data.get("site"), Mapping) and data["site"].get("start")
            missing += [] if named else ["[site] start"]
            if missing:
                raise ValueError(f"{', '.join(missing)} missing; a [list] of addresses alone needs none of them")
        elif "follow" in data or "listing" in data:
            raise ValueError("[list]: has no pages, so leave out [follow] and [listing]")
        return data

    @model_validator(mode="after")
    def _labels_are_known_before_the_pages(self) -> Site:
        if self.labels.by == "category" and self.listing.breadcrumb is not None:
            raise ValueError(
                'listing.breadcrumb: needs label rules ([labels] by = "rules"), for labels are numbered first'
            )
        return self

    @property
    def digest(self) -> str:
        """16 hex digits over everything but [limits]: going on more slowly is the same crawl."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:16]

    def identity(self) -> dict[str, Any]:
        """What makes a crawl this one and no other, by table: not its [limits], nor where its list lies."""
        tables = self.model_dump(mode="json", exclude={"limits": True, "url_list": {"path"}})
        if self.url_list is None:
            del tables["url_list"]  # as before there were lists
        return tables

    def allows(self, host: str) -> bool:
        """Whether a host belongs to the crawl."""
        if self.url_list is not None and not self.hosts:
            return True  # a list names each address itself; private ones the guard refuses all the same
        return any(fnmatch.fnmatchcase(host, pattern) for pattern in self.hosts)

    @cached_property
    def hosts(self) -> tuple[str, ...]:
        """Patterns of the hosts that may be called, as they stand in addresses."""
        starts = (absolute("http://none/", start) for start in self.site.start)
        return self.site.hosts or tuple(dict.fromkeys(host_of(netloc_of(url)) for url in starts if url))

    @property
    def ports(self) -> frozenset[int]:
        """Ports that start pages name: besides those of the web, the only ones below 1024 that may be called."""
        return frozenset(port for start in self.site.start if (port := urlsplit(start).port))

    def decide(self, path: Sequence[str], url: str, title: str = "") -> Decision:
        """What the label rules say of a category, or of a product in it; see `Labels.decide`."""
        return self.labels.decide(path, url, title)

    def label_of(self, path: Sequence[str], url: str, title: str = "") -> str | None:
        """The label of a category or product, None if it has none."""
        return self.labels.decide(path, url, title).label

    def listed_as(self, path: Sequence[str], url: str) -> str | None:
        """What a category is listed as: its label; "" where only its products' titles or its breadcrumb may tell; None
        if it is not to be listed."""
        label = self.label_of(path, url)
        return "" if label is None and (self.labels.by_title or self.listing.breadcrumb) else label

    def follows(self, text: str, url: str) -> bool:
        """Whether a category link is explored."""
        return self.why_not_followed(text, url) is None

    def why_not_followed(self, text: str, url: str) -> str | None:
        """Why a category link is not explored, in words; None if it is."""
        follow = self.follow
        if url and not self.allows(host_of(netloc_of(url))):
            return f"host {host_of(netloc_of(url))} is not among [site] hosts"
        for name, patterns, value in (("deny_url", follow.deny_url, url), ("deny_text", follow.deny_text, text)):
            for pattern in patterns:
                if compile_pattern(pattern).search(value):
                    return f"{name} {pattern}"
        for name, patterns, value in (("allow_url", follow.allow_url, url), ("allow_text", follow.allow_text, text)):
            if patterns and not any(compile_pattern(pattern).search(value) for pattern in patterns):
                return f"no {name} fits"
        return None


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
    try:
        data = merge(_resolved(source, ()), overrides)
        table = data.get("list")
        if isinstance(table, dict) and isinstance(table.get("path"), str):
            data["list"] = {**table, "path": str(_path_of(source).parent / table["path"])}
        return validate(Site, data, where)
    except RecursionError:
        raise ConfigError(where, "", "nested too deeply to be a site file") from None


def list_site(path: Path, *, url: str | None = None, label: str | None = None, **overrides: Mapping[str, Any]) -> Site:
    """The site of a list of image addresses that has no site file.

    Args:
        path: of a CSV, TSV, JSON-lines, Parquet or text file.
        url, label: names of the columns; see `UrlList`.
        overrides: further tables, such as `limits={"per_host": 2}`.

    Raises:
        ConfigError: a table is wrong.
    """
    columns = {name: value for name, value in (("url", url), ("label", label)) if value is not None}
    # not the file's name: the list that goes on may be another file
    data = merge({"site": {"name": "list"}, "list": {"path": str(path), **columns}}, overrides)
    return validate(Site, data, str(path))


def _resolved(source: Path | str, seen: tuple[str, ...]) -> dict[str, Any]:
    path = _path_of(source)
    if str(path) in seen:
        raise ConfigError(str(source), "extends", f"goes in a circle: {' -> '.join((*seen, str(path)))}")
    data = read_toml(path)
    parent = data.pop("extends", None)
    if parent is None:
        return data
    if not isinstance(parent, str) or len(parent) > 1_000:
        raise ConfigError(str(source), "extends", f"expected the name or path of a site file, not {parent!r:.100}")
    if parent.endswith(".toml"):
        parent = path.parent / parent
    try:
        below = _resolved(parent, (*seen, str(path)))
    except ConfigError as error:
        raise ConfigError(str(source), "extends", str(error)) from None
    return merge(below, data)


def _path_of(source: Path | str) -> Path:
    if isinstance(source, str) and re.fullmatch(r"[A-Za-z0-9_-]+", source):
        builtin = Path(str(resources.files("crawler") / "sites"))
        path = builtin / f"{source}.toml"
        if not path.exists():
            known = ", ".join(sorted(file.stem for file in builtin.glob("*.toml")))
            raise ConfigError(source, "", f"no site file of that name comes with the crawler; known: {known}")
        return path
    return Path(source)


def _host_pattern(pattern: str) -> str:
    """Raises ValueError."""
    if pattern.startswith("[") and pattern.endswith("]"):
        pattern = pattern[1:-1]  # an IPv6 literal as it stands in addresses
    if "/" in pattern or "@" in pattern or (pattern.count(":") == 1 and pattern[-1:].isdigit()):
        raise ValueError(f"expected a host such as shop.example or *.shop.example, not {pattern!r}: no scheme, no port")
    labels = [label if set("*?[]:") & set(label) else ascii_host(label) for label in pattern.split(".")]
    if None in labels or not pattern:
        raise ValueError(f"not the name of a host: {pattern!r}")
    return ".".join(str(label).lower() for label in labels)
