"""What a page says, and what a hostile one cannot do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crawler import extract
from crawler.selectors import found_by, found_in_each
from crawler.shop import pages
from crawler.site import load_site

LISTING = load_site("thomann").listing
LINKS = load_site("thomann").follow.links
URL = "https://www.thomann.de/gb/x.html?pg=2&ls=100"

# As others recorded it from the real shop: hosts, double slash, lazy placeholder and all.
RECORDED = """
<div class="fx-product-list-entry"><div class="product">
<a class="product__image" href="ortega_ruhz_mm.htm?listPosition=0&amp;type=category">
<picture class="fx-picture"><source type="image/webp"
 data-srcset="https://thumbs.static-thomann.de/thumb//thumb220x220/pics/prod/257768.webp">
<source data-srcset="https://thumbs.static-thomann.de/thumb//thumb220x220/pics/prod/257768.jpg">
<img class="fx-image lazyload" src="https://www.thomann.de/pics/images/misc/placeholder.svg"></picture></a>
<span class="title__manufacturer"> Ortega </span><span class="title__name">RU5MM
 <b>Ukulele</b></span><span class="product__price-primary">&euro; 69</span></div></div>
"""


def test_a_recorded_item():
    tree = extract.parse(RECORDED.encode(), URL)
    (item,) = extract.items(tree, LISTING)
    assert item == extract.Item(
        url="https://www.thomann.de/gb/ortega_ruhz_mm.htm",
        image="https://thumbs.static-thomann.de/thumb//thumb150x150/pics/prod/257768.jpg",
        maker="Ortega",
        title="RU5MM Ukulele",
        price="€ 69",
    )


def test_webp_where_there_is_no_jpeg_and_nothing_where_there_is_only_the_lazy_placeholder():
    lazy = RECORDED.replace("data-srcset", "data-none")
    (item,) = extract.items(extract.parse(lazy.encode(), URL), LISTING)
    assert item.image is None
    webp = RECORDED.replace("<source data-srcset", "<source data-none")
    (item,) = extract.items(extract.parse(webp.encode(), URL), LISTING)
    assert item.image
    assert item.image.endswith(".webp")


def test_the_shops_own_page(shop):
    category = shop.category("st-models")
    html = pages.category_page(shop, category, page=1, per_page=25)
    items = extract.items(extract.parse(html.encode(), "http://127.0.0.1/gb/st-models.html"), LISTING)
    assert [item.title for item in items] == [product.name for product in shop.products_in("st-models")[:25]]
    past = pages.category_page(shop, category, page=99, per_page=25)
    assert extract.items(extract.parse(past.encode(), URL), LISTING) == []


def test_links_in_order_once_each():
    body = """<ul><li class="link-list__item"><a class="link-list__text" href="b.html"> B
     Guitars</a></li><li class="link-list__item"><a class="link-list__text" href="/a.html">A</a></li>
     <li class="link-list__item"><a class="link-list__text" href="b.html#top">again</a></li>
     <li class="link-list__item"><a class="link-list__text" href="javascript:x">no</a></li></ul>"""
    assert extract.links(extract.parse(body.encode(), URL), LINKS) == [
        extract.Link("https://www.thomann.de/gb/b.html", "B Guitars"),
        extract.Link("https://www.thomann.de/a.html", "A"),
    ]


def test_base_and_charset():
    body = '<base href="/other/"><ul class="link-list__item"><a class="link-list__text" href="a">Bässe</a></ul>'
    for charset, header in (
        ("utf-8", ""),
        ("latin-1", "text/html; charset=ISO-8859-1"),
        ("utf-8", "text/html; charset=x"),
    ):
        (link,) = extract.links(extract.parse(body.encode(charset), URL, header), LINKS)
        assert link == extract.Link("https://www.thomann.de/other/a", "Bässe")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a.jpg", ["a.jpg"]), ("a.jpg 1x, b.jpg 2x", ["a.jpg", "b.jpg"]),
        ("a,b.jpg 150w,c.jpg 300w", ["a,b.jpg", "c.jpg"]),
        ("a.jpg, b.jpg", ["a.jpg", "b.jpg"]), (" , a.jpg ,", ["a.jpg"]), ("", []), (",,,", []),
    ],
)  # fmt: skip
def test_srcset(value, expected):
    assert [address for address, _ in extract.srcset(value)] == expected


def test_srcset_splits_at_htmls_white_space_only():
    """\x1f is white space to Python and part of an address to HTML; found by Hypothesis."""
    assert list(extract.srcset("\x1f")) == [("\x1f", None)]


SIZES = "/150.jpg 150w, /300.jpg 300w, /600.jpg 600w, /100.jpg 100w"


@pytest.mark.parametrize(
    ("value", "width", "first"),
    [
        (SIZES, None, "/150.jpg"), (SIZES, 150, "/150.jpg"), (SIZES, 151, "/300.jpg"), (SIZES, 1, "/100.jpg"),
        (SIZES, 900, "/600.jpg"), ("/a.jpg, /b.jpg 2x", 300, "/a.jpg"), ("/a.jpg, /b.jpg 90w", 300, "/b.jpg"),
    ],
)  # fmt: skip
def test_of_a_srcset_the_smallest_that_is_wide_enough(value, width, first):
    assert extract.addresses(value, "srcset", width)[0] == first


def test_an_attribute_that_is_no_srcset_is_one_address():
    assert extract.addresses("/a b, c.jpg", "src", None) == ["/a b, c.jpg"]
    assert extract.addresses("/a.jpg 1x, /b.jpg 2x", "data-lazy", None) == ["/a.jpg", "/b.jpg"]


@pytest.mark.parametrize(
    ("html", "image"),
    [
        ('<img src="/a.jpg">', "/a.jpg"),
        ('<img src="/grey.gif" data-src="/a.jpg">', "/a.jpg"),
        ('<img src="data:image/gif;base64,R0lG" data-lazy="/a.jpg">', "/a.jpg"),
        ('<img src="/grey.gif" data-original="/a.jpg">', "/a.jpg"),
        ('<img src="/s.jpg" data-srcset="/a.jpg 300w, /b.jpg 600w" data-src="/c.jpg">', "/a.jpg"),
        ('<img src="/s.jpg" srcset="/b.jpg 600w, /a.jpg 320w">', "/a.jpg"),
        ('<img src="data:,"><noscript><img src="/a.jpg"></noscript>', "/a.jpg"),
        ('<img src="/grey.gif"><noscript><img src="/a.jpg"></noscript>', "/a.jpg"),
        ('<img src="data:," alt="x">', None),
        ('<img>', None),
    ],
)  # fmt: skip
def test_an_image_element_gives_its_best_address(html, image):
    listing = load_site("thomann", listing={"image": ["img"], "image_width": 300, "rewrite": []}).listing
    item = (
        f'<div class="fx-product-list-entry"><div class="product"><a class="product__image" href="/p">{html}</a></div>'
    )
    (found,) = extract.items(extract.parse(item.encode(), URL), listing)
    assert found.image == (f"https://www.thomann.de{image}" if image else None)


def test_a_picture_gives_its_source_before_its_img():
    html = '<picture><source srcset="/a.webp"><img src="/b.jpg"></picture>'
    listing = load_site("thomann", listing={"item": "p", "link": "xpath:@id", "image": ["picture"]}).listing
    (found,) = extract.items(extract.parse(f'<p id="x">{html}'.encode(), URL), listing)
    assert (found.url, found.image) == ("https://www.thomann.de/gb/x", "https://www.thomann.de/a.webp")


@given(st.text(max_size=80))
def test_srcset_ends_for_any_text(value):
    assert all(address for address, _ in extract.srcset(value))


def test_page_numbers():
    assert extract.page_number("https://a/x.html", "?pg={page}&ls=100", 3) == "https://a/x.html?pg=3&ls=100"
    assert extract.page_number("https://a/x.html?sort=1", "?pg={page}", 2) == "https://a/x.html?sort=1&pg=2"


def test_next_link():
    tree = extract.parse(b'<a class="next" href="page/2/">next</a>', "https://a/shop/")
    assert extract.next_page(tree, "a.next") == "https://a/shop/page/2/"
    assert extract.next_page(tree, "a.other") is None


def test_a_hundred_thousand_links_are_not_all_taken():
    body = b'<ul class="link-list__item">' + b"".join(
        b'<a class="link-list__text" href="/%d">x</a>' % i for i in range(100_000)
    )
    assert len(extract.links(extract.parse(body, URL), LINKS)) == extract.MAX_LINKS


def test_entities_are_not_expanded():
    body = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;"><!ENTITY c SYSTEM "file:///etc/passwd">]>'
    body += b'<ul class="link-list__item"><a class="link-list__text" href="/a">&b;&c;</a></ul>'
    (link,) = extract.links(extract.parse(body, URL), LINKS)
    assert "aaaa" not in link.text
    assert "root:" not in link.text


@given(st.binary(max_size=300), st.text(max_size=30))
def test_any_bytes_are_a_page(body, content_type):
    tree = extract.parse(body, URL, content_type)
    assert extract.links(tree, LINKS) == []
    assert extract.items(tree, LISTING) == []


_PIECES = st.sampled_from(
    ["<div class='fx-product-list-entry'>", "<div class='product'>", "</div>", "<a class='product__image' href='", "'>",
     "<picture class='fx-picture'>", "<source data-srcset='", "\x00", "http://[", "%%%", "&#xD800;", "<!--", "]]>", "x"]
)  # fmt: skip


@given(st.lists(_PIECES, max_size=40))
def test_broken_items_are_items_or_nothing(pieces):
    tree = extract.parse("".join(pieces).encode(), URL)
    for item in extract.items(tree, LISTING):
        assert item.url.startswith("http")


_WORDS = ("x", "<br>y", "<img src=1><img class='a b' src=2>z", "<b id=q class=a>t<i>u</i>v</b>")
_SELECTORS = (
    "b", "*", ".a", "b.a", "#q", "img[src]", "b > i", "div.p > b > i", ".p > *", "p>b", "img::attr(src)", "b::text",
    "i::text", "div > b::text", "b > i::text", ".p i", "b, i", "div.p > b i", "i:first-child", "xpath:.//b/@id",
)  # fmt: skip


def _nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    tags = st.sampled_from(("<div>{}</div>", "<div class=p>{}</div>", "<p><span class=a>{}</span></p>", "{}{}"))
    return st.builds(lambda tag, one, two: tag.format(one, two), tags, inner, inner)


def _identity(found: Any) -> Any:
    """An element itself; of a text also where it comes from."""
    return (str(found), found.getparent(), found.is_tail) if isinstance(found, str) else found


@settings(max_examples=150)
@given(st.recursive(st.sampled_from(_WORDS), _nested, max_leaves=25), st.sampled_from(_SELECTORS))
def test_a_page_searched_once_finds_what_each_element_searched_finds(inner, selector):
    """Products may lie in each other; texts behind an element are its parent's."""
    root = extract.parse(f"<div class=p>{inner}</div>{inner}".encode(), "https://shop.example/").root
    products = found_by(".p", root)
    found = found_in_each(selector, root, products)
    for product in products:
        assert [_identity(one) for one in found.get(product, [])] == [
            _identity(one) for one in found_by(selector, product)
        ]
