"""Any text is a site file or one line; any bytes are a page. What long runs found is kept as examples.

BASSLINE_FUZZ=20000 in the environment runs so many examples of each; the suite runs a few.
"""

from __future__ import annotations

import json
import os
import time
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from crawler import extract
from crawler.advice import advice
from crawler.listing import judged
from crawler.selectors import compile_selector, found_by
from crawler.site import Site, load_site
from shards.errors import ConfigError

EXAMPLES = int(os.environ.get("BASSLINE_FUZZ", "60"))
MANY = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
SITES = sorted(Path(str(resources.files("crawler"))).glob("sites/*.toml"))
URL = "https://shop.example/a/b.html"


def reads_or_says(path: Path) -> Site | None:
    """The site of a file, or None after one line of error."""
    try:
        return load_site(path)
    except ConfigError as error:
        line = str(error)
    assert line.startswith(str(path)), line
    assert len(line.splitlines()) == 1, line
    assert len(line) < 2_000
    return None


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "site.toml"


# -- site files --

SELECTORS = st.sampled_from(
    [
        "a",
        "li > a::attr(href)",
        "h2::text",
        "xpath://a",
        "xpath:string(.)",
        "xpath:count(//a)",
        "xpath:1=1",
        "xpath://a/@href",
        "xpath:foo()",
        "xpath:$x",
        "xpath:x:y",
        "xpath:id(//a)",
        "xpath:document('/etc/passwd')",
        "xpath:" + "(" * 200,
        "xpath:" + "not(" * 300 + "1" + ")" * 300,
        "a" + ":not(a)" * 200,
        "::attr()",
        "*|*",
        "xpath:",
        " ",
        "a,",
        "#\\0",
        "a::b",
        "xpath:string-length(//a) div 0",
        "xpath://a[position()=last()]",
        "xpath:.//text()",
        ":has(> a)",
        "a:contains('x')",
        "xpath:lang('x')",
        "xpath:key('a','b')",
        "xpath:current()",
        "xpath:substring('a', 0 div 0)",
        "\x00",
        "xpath:'",
    ]
)
PATTERNS = st.sampled_from(
    [
        "a",
        "",
        "(",
        "a{99999999999}",
        "[[a]",
        "(?i)x",
        "(?P<a>b)(?P=a)",
        "\\",
        "(?<=a+)b",
        "x" * 3000,
        "(" * 500 + ")" * 500,
        "[a-\\d]",
        "(?z)",
        "\\1",
        "(?(1)a|b)",
        "^x",
        "$",
        "(a)(?i)",
    ]
)
HOSTS = st.sampled_from(
    [
        "",
        "*",
        "SHOP.example",
        "bücher.example",
        "[::1]",
        "::1",
        "http://x/",
        "a:80",
        "*.ü.x",
        "\u200b",
        "a b",
        "x" * 300,
        "..",
        "[",
        "a@b",
        "%",
        "127.1",
        "xn--",
        "xn--a-ä",
    ]
)
LEAVES = st.one_of(
    SELECTORS,
    PATTERNS,
    HOSTS,
    st.integers(-10, 10),
    st.floats(),
    st.booleans(),
    st.text(max_size=8),
    st.sampled_from([10**30, "https://shop.example/", "rules", "category", "drop", "deepest", "?page={page}", "{page"]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=2)),
    max_leaves=6,
)
KEYS = {
    "site": ["name", "version", "start", "hosts", "allow_private", "agent", "user_agent"],
    "follow": ["links", "text", "depth", "allow_url", "deny_url", "allow_text", "deny_text", "max_categories"],
    "labels": ["by", "depth", "rules", "conflict"],
    "listing": [
        "item",
        "link",
        "image",
        "image_width",
        "maker",
        "title",
        "price",
        "breadcrumb",
        "page",
        "next",
        "max_pages",
        "ignore_parameters",
        "rewrite",
    ],
    "list": ["path", "url", "label", "format"],
    "drop": ["image", "title", "product", "price", "min_side", "max_side", "placeholder_at"],
    "limits": ["concurrency", "per_host", "rate_per_host", "connect_s"],
}
RULES = st.lists(
    st.fixed_dictionaries(
        {"label": st.sampled_from(["a", "b", "", 3])},
        optional={name: st.lists(PATTERNS, max_size=2) for name in ("path", "url", "title", "x")},
    ),
    max_size=3,
)
GOOD: dict[str, dict[str, Any]] = {
    "site": {"name": "x", "start": ["https://shop.example/"]},
    "follow": {"links": "a"},
    "labels": {"rules": [{"label": "a", "path": ["A"]}]},
    "listing": {"item": "li", "link": "a::attr(href)", "image": ["img::attr(src)"]},
}


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Any]:
    """A site file with some of it replaced by what may or may not belong there."""
    made: dict[str, Any] = json.loads(json.dumps(GOOD))
    for _ in range(draw(st.integers(1, 3))):
        table = draw(st.sampled_from(sorted(KEYS)))
        key = draw(st.one_of(st.sampled_from(KEYS[table]), st.text(max_size=4)))
        kind = draw(st.integers(0, 9))
        if kind == 0:
            made.pop(table, None)
        elif kind == 1:
            made[draw(st.one_of(st.just("extends"), st.just(table), st.text(max_size=4)))] = draw(VALUES)
        elif isinstance(made.setdefault(table, {}), dict):
            choices = {"rules": RULES, "hosts": st.lists(HOSTS, max_size=3), "image": st.lists(SELECTORS, max_size=3)}
            usual = SELECTORS if table in ("follow", "listing") else st.lists(PATTERNS, max_size=3)
            made[table][key] = draw(st.one_of(choices.get(key, usual), VALUES))
    return made


def toml(value: Any) -> str:
    """A value as TOML writes it inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value).replace("\x7f", "\\u007f")


@MANY
@given(tables())
def test_tables_are_a_site_or_one_line(file, made):
    file.write_text("\n".join(f"{json.dumps(key)} = {toml(value)}" for key, value in made.items()), encoding="utf-8")
    site = reads_or_says(file)
    if site is not None:
        page = extract.parse(b"<ul class='products'><li><a href='/1'>x<img src='/1.jpg'></a><h2>y</h2></li></ul>", URL)
        judged(site, extract.items(page, site.listing), ("A",), URL)
        extract.links(page, site.follow.links, site.follow.text)
        assert all(len(line.splitlines()) == 1 for line in advice(site))
        assert site.digest


@MANY
@given(st.binary(max_size=200))
@example(b"[" * 5000)
@example(b"x = " + b"[" * 3000 + b"]" * 3000)
@example(b"x = " + b"9" * 5000)
@example(b"x = " + b"{a=" * 3000)
@example(b".".join([b"a"] * 3000) + b" = 1\n")
@example(b'extends = "\\u0000.toml"')
@example(b'extends = "' + b"a" * 5000 + b'.toml"')
@example(b'extends = "..//../.toml"')
@example(b'"a\\nb" = 1')
@example(b'[site]\n"a\\u2028b" = 1')
@example(b"\xff\xfe")
def test_bytes_are_a_site_or_one_line(file, content):
    file.write_bytes(content)
    assert reads_or_says(file) is None


@MANY
@given(st.sampled_from(SITES), st.integers(0, 4000), st.integers(0, 40), st.binary(max_size=20))
def test_a_damaged_site_file_is_a_site_or_one_line(file, source, at, gone, new):
    content = source.read_bytes().replace(b'extends = "', b'extends = "' + str(source.parent).encode() + b"/")
    content = content.replace(b'thomann"\n', b'thomann.toml"\n', 1).replace(b'embedded"\n', b'embedded.toml"\n', 1)
    file.write_bytes(content[:at] + new + content[at + gone :])
    reads_or_says(file)


# -- pages --

WOO, REAL = load_site("woocommerce"), load_site("thomann")
LAZY = load_site(
    "thomann",
    listing={
        "image": ["img", "picture", "noscript img", "a"],
        "image_width": 300,
        "breadcrumb": "nav *::text",
        "page": None,
        "next": "a.next",
    },
)
PIECES = st.sampled_from(
    [
        "<div class='fx-product-list-entry'>",
        "<div class='product'>",
        "</div>",
        "<a class='product__image next' href='",
        "'>",
        "</a>",
        "<picture class='fx-picture'>",
        "<source data-srcset='",
        '<source srcset="',
        '">',
        "\x00",
        "http://[",
        "%%%",
        "&#xD800;",
        "<!--",
        "]]>",
        "<li class='product'>",
        "<ul class='products'>",
        "<img class='attachment-woocommerce_thumbnail' src='",
        "<img data-src='/x.jpg' src='data:,'>",
        "<noscript>",
        "</noscript>",
        "<img data-srcset='/a.jpg 1w, /b.jpg 400w, c 9999999w'>",
        " 300w,",
        " 2x",
        ",",
        " ",
        "/x.jpg",
        "//\u2028/",
        "http://ü/",
        "https://shop.example:99999/",
        "<nav>",
        "Home / ",
        "</nav>",
        "<base href='http://[::1'>",
        "<base href='",
        '<!DOCTYPE x [<!ENTITY a "b">]>',
        "&a;",
        "<?xml version='1.0' encoding='utf-16'?>",
        "<svg><image href='x'/></svg>",
        "<template>",
        "<frameset>",
        "<plaintext>",
        "<script>",
        "<table><tr><li class='product'>",
        "\ufeff",
        "<h2 class='woocommerce-loop-product__title'>",
        "<math><mi><h2>",
        "\udc80",
        "<a href=javascript:x>",
    ]
)
CHARSETS = st.sampled_from(
    [
        "",
        "text/html; charset=utf-16",
        "text/html; charset=utf-7",
        "text/html; charset=",
        "text/html; charset=idna",
        "charset=rot13",
        "text/html; charset=undefined",
        "text/html; charset=base64",
        "text/html; charset=latin-1",
        "charset=\x00",
        "charset=cp037",
    ]
)


def look(body: bytes, content_type: str = "") -> None:
    """Everything that is asked of a page, by three site files."""
    for site in (WOO, REAL, LAZY):
        tree = extract.parse(body, URL, content_type)
        crumbs = extract.breadcrumb(tree, site.listing)
        for one in judged(site, extract.items(tree, site.listing), crumbs, URL):
            assert one.item.url.startswith("http")
            assert one.item.image is None or one.item.image.isascii()
            json.dumps([one.item.title, one.item.maker, one.item.price, crumbs], ensure_ascii=False).encode()
        for link in extract.links(tree, site.follow.links, site.follow.text):
            site.why_not_followed(link.text, link.url)
            link.text.encode()
        if site.listing.next:
            extract.next_page(tree, site.listing.next)


@MANY
@given(st.lists(PIECES, max_size=60), CHARSETS)
def test_pieces_of_pages(pieces, content_type):
    look("".join(pieces).encode("utf-8", "surrogatepass"), content_type)


@MANY
@given(st.binary(max_size=300), CHARSETS)
def test_any_bytes_are_a_page(body, content_type):
    look(body, content_type)


@pytest.mark.parametrize(
    "body",
    [
        b"<div class='product'>" * 100_000,
        b"<ul class='products'><li class='product'>" * 5_000,
        b"<ul class='products'>" + b"<li class='product'><a class='woocommerce-LoopProduct-link' href='/1'>" * 50_000,
        b"<ul class='product-categories'><li class='cat-item'>" + b"<a href='/%d'>x</a>" * 100_000,
        b"<a class='product__image' href='" + b"a" * 3_000_000 + b"'>",
        b"<div class='fx-product-list-entry'><div class='product'><a class='product__image'>"
        b"<picture class='fx-picture'><source data-srcset='" + b"/a.jpg 1w, " * 300_000 + b"'>",
        b"<!DOCTYPE a [<!ENTITY a 'aaaaaaaaaa'>"
        + b"".join(b"<!ENTITY %c '%s'>" % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(20))
        + b"]>&t;",
        b"<li class='cat-item'><a href='/x'>" + b"x " * 2_000_000,
        b"<nav>" + b"<b>/</b>" * 50_000,
        b"<ul class='products'><li class='product'>" + b"<a a='" * 300_000,
    ],
    ids=["deep", "deep-items", "items", "links", "attribute", "srcset", "entities", "text", "crumbs", "broken"],
)
def test_a_page_that_is_made_to_hurt_costs_seconds_at_most(body):
    began = time.process_time()
    look(body[:8_000_000])
    assert time.process_time() - began < 20  # of this process alone; about 1 s here


def test_a_selector_that_fails_on_a_page_finds_nothing():
    compile_selector("xpath://em[unknown()]")  # the page that selectors are tried on has no <em>
    assert found_by("xpath://em[unknown()]", extract.parse(b"<em>x</em>", URL).root) == []
