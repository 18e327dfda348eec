"""`bassline crawl --limit`: one key of [limits] for a run."""

from __future__ import annotations

import pytest

from crawler.limits import Limits
from shards.errors import ConfigError


def test_settings_lie_over_the_file():
    limits = Limits(per_host=3).with_settings(["rate_per_host=0.5", "bytes_per_s = 2e5", "retries=0", "retries=1"])
    assert (limits.per_host, limits.rate_per_host, limits.bytes_per_s, limits.retries) == (3, 0.5, 2e5, 1)
    assert Limits().with_settings([]) == Limits()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("per_hots=3", "--limit: per_hots: unknown key; did you mean 'per_host'"),
        ("per_host=none", "--limit: per_host: expected a number, not 'none'"),
        ("per_host=0", "--limit: per_host: input should be greater than or equal to 1"),
        ("per_host", "expected KEY=VALUE"),
        ("=3", "expected KEY=VALUE"),
        ('per_host="x"', "--limit: per_host"),
        ("per_host=1\nconcurrency=2", "--limit: per_host"),
    ],
)
def test_a_wrong_setting_is_one_line(setting, message):
    with pytest.raises(ConfigError) as error:
        Limits().with_settings([setting])
    assert message in str(error.value)
