"""Addresses stay as the shop wrote them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crawler import urls
from crawler.urls import absolute, host_of, netloc_of, without_parameters

BASE = "https://shop.example/gb/list.html?pg=2"


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("/thumb//thumb150x150/pics/1.jpg", "https://shop.example/thumb//thumb150x150/pics/1.jpg"),
        ("https://thumbs.example/thumb//a.jpg", "https://thumbs.example/thumb//a.jpg"),
        ("x.htm?listPosition=0&type=category", "https://shop.example/gb/x.htm?listPosition=0&type=category"),
        ("?pg=3", "https://shop.example/gb/list.html?pg=3"),
        ("//cdn.example/a.jpg", "https://cdn.example/a.jpg"),
        ("/a/%7euser/%c3%bc", "https://shop.example/a/%7euser/%c3%bc"),
        ("/a b/ü.jpg#top", "https://shop.example/a%20b/%C3%BC.jpg"),
        ("HTTPS://CDN.Example:443/A", "https://cdn.example/A"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("/a/../b/./c", "https://shop.example/b/c"),
        ("https://cdn.example", "https://cdn.example/"),
    ],
)
def test_absolute(reference, expected):
    assert absolute(BASE, reference) == expected


@pytest.mark.parametrize(
    "reference",
    ["", "  ", "javascript:alert(1)", "data:image/png;base64,xx", "mailto:a@b", "ftp://a/b", "file:///etc/passwd",
     "http://", "https://user:password@host/", "http://host:99999/", "http://[::1", "/" + "a" * 5000],
)  # fmt: skip
def test_what_is_no_address_of_the_web(reference):
    assert absolute(BASE, reference) is None


@given(st.text(max_size=60))
def test_any_text_gives_a_clean_address_or_none(reference):
    url = absolute(BASE, reference)
    if url is not None:
        assert url.isascii()
        assert urlsplit(url).scheme in ("http", "https")
        assert netloc_of(url)
        assert not any(character.isspace() for character in url)


_HOSTS = ["http://", "https://", "a.example", "B", "xn--a", "ü", ":", "80", "443", "@", "[", "]"]
_PATHS = ["/", "//", "//a", ".", "..", "?", "#", ";", "&", "=", "%41", "x", "-", "~", "'", "\\", " ", "\t"]
_PARTS = st.sampled_from([*_HOSTS, *_PATHS])


@example(["/", ";"])
@example(["/", "?"])
@given(st.lists(_PARTS, max_size=8))
def test_the_short_way_gives_what_the_long_way_gives(parts):
    reference = "".join(parts)
    short = absolute(BASE, reference)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(urls, "_PLAIN", re.compile("(?!)"))
        patched.setattr(urls, "_WHOLE", re.compile("(?!)"))
        assert absolute(BASE, reference) == short


def test_parameters_are_dropped_by_name_and_the_rest_is_kept():
    ignored = frozenset({"listPosition", "type"})
    assert without_parameters("https://a/x.htm?listPosition=0&type=category", ignored) == "https://a/x.htm"
    assert without_parameters("https://a/x.htm?id=%C3&type=b&z", ignored) == "https://a/x.htm?id=%C3&z"
    assert without_parameters("https://a/x.htm", ignored) == "https://a/x.htm"


def test_hosts():
    assert netloc_of("http://[::1]:80/a") == "[::1]:80"
    assert host_of("[::1]:80") == "::1"
    assert host_of("shop.example:8080") == "shop.example"
