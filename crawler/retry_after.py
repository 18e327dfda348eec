"""The Retry-After header, in both its forms (RFC 9110, section 10.2.3)."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["retry_after_s"]


def retry_after_s(header: str, now: datetime) -> float | None:
    """Seconds from `now` that a Retry-After header asks for; None if it says neither seconds nor a date."""
    header = header.strip()
    if header.isascii() and header.isdigit():
        return float(header) if len(header) < 10 else None
    with suppress(ValueError, TypeError, IndexError, OverflowError):
        moment = parsedate_to_datetime(header)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, (moment - now).total_seconds())
    return None
