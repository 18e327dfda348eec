"""What `bassline crawl` is told to crawl: a site file, one that comes along, or a list of addresses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from shards.errors import ConfigError

if TYPE_CHECKING:
    from crawler.site import Site

__all__ = ["load"]


def load(site: str, start: str | None, url_column: str | None, label_column: str | None) -> Site:
    """The site file of a name, or the site of a list; begun at another address if one is given.

    Raises:
        ConfigError: the file or an option is wrong.
    """
    from crawler.site import list_site, load_site
    from crawler.url_list import is_list
    from crawler.urls import absolute, host_of, netloc_of

    if is_list(site):
        if start is not None:
            raise ConfigError("--start", "", "a list has no start page")
        if not Path(site).is_file():
            raise ConfigError(site, "", "no such file")
        return list_site(Path(site), url=url_column, label=label_column)
    tables: dict[str, dict[str, Any]] = {}
    given = {name: column for name, column in (("url", url_column), ("label", label_column)) if column is not None}
    source = Path(site) if site.endswith(".toml") or "/" in site else site
    if start is not None:
        address = absolute("http://none/", start) if "//" in start else None
        if address is None:
            raise ConfigError("--start", "", f"{start!r} is not an http(s) address")
        tables["site"] = {"start": [address], "hosts": [host_of(netloc_of(address))]}
    if given:
        if load_site(source).url_list is None:
            raise ConfigError("--url-column", "", "only a list has columns")
        tables["list"] = given
    return load_site(source, **tables)
