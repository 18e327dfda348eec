"""How hard a crawl may work: every limit once, with its unit and its default; docs/politeness.md tells why."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from shards.errors import ConfigError
from shards.toml_file import StrictModel, validate

__all__ = ["Limits"]


class Limits(StrictModel):
    """Limits of a crawl; every field has its unit in its name or here."""

    concurrency: int = Field(default=64, ge=1, le=4096, description="requests in flight over all hosts")
    per_host: int = Field(default=8, ge=1, le=1024, description="requests in flight to one host at most")
    rate_per_host: float = Field(default=10.0, ge=0, description="requests a second begun to one host; 0 is no limit")
    bytes_per_s: float = Field(default=0.0, ge=0, description="of bodies, over all hosts; 0 is no limit")
    bytes_per_s_per_host: float = Field(default=0.0, ge=0, description="of bodies, of one host; 0 is no limit")
    connect_s: float = Field(default=5.0, gt=0)
    read_s: float = Field(default=10.0, gt=0, description="longest silence inside an answer")
    total_s: float = Field(default=60.0, gt=0, description="one request from connection to last byte")
    min_bytes_per_s: float = Field(default=500.0, ge=0, description="a body slower than this after read_s is given up")
    page_bytes: int = Field(default=8_000_000, ge=1)
    image_bytes: int = Field(default=10_000_000, ge=1)
    redirects: int = Field(default=5, ge=0)
    retries: int = Field(default=3, ge=0, description="attempts after the first")
    retry_ratio: float = Field(default=0.1, ge=0, le=1, description="retries a host may cost, as a share of requests")
    retry_floor: int = Field(default=10, ge=0, description="retries a host may cost beyond that share")
    backoff_s: float = Field(default=0.5, gt=0, description="before the first retry; doubled each time, with jitter")
    breaker_failures: int = Field(default=10, ge=1, description="failures in a row after which a host is let alone")
    breaker_pause_s: float = Field(default=1.0, gt=0, description="before the first probe; doubled each time")
    breaker_longest_pause_s: float = Field(default=30.0, gt=0)
    give_up_s: float = Field(default=300.0, gt=0, description="a host failing for so long is left to the next run")
    robots_retries: int = Field(default=3, ge=0, description="attempts after the first, the host parked between them")
    robots_pause_s: float = Field(default=5.0, gt=0, description="before the first of them; doubled each time")
    longest_park_s: float = Field(default=3600.0, gt=0, description="a longer Retry-After is left to a later run")
    longest_crawl_delay_s: float = Field(default=60.0, ge=0, description="a longer Crawl-delay counts as this")

    def with_settings(self, settings: Sequence[str], where: str = "--limit") -> Limits:
        """These limits with some changed, as on a command line: "per_host=4", "rate_per_host=0.5".

        Args:
            settings: KEY=VALUE each; the last one of a key counts.
            where: what an error names as its place.

        Raises:
            ConfigError: an unknown key, or a value that the key does not take.
        """
        changed: dict[str, Any] = {}
        for setting in settings:
            key, equals, text = (part.strip() for part in setting.partition("="))
            if not equals or not key:
                raise ConfigError(where, "", f"expected KEY=VALUE, such as per_host=4, not {setting!r}")
            try:
                value = tomllib.loads(f"value = {text}")
                (changed[key],) = value.values()  # one line, one value
            except ValueError:
                raise ConfigError(where, key, f"expected a number, not {text!r}") from None
        return validate(Limits, {**self.model_dump(), **changed}, where)
