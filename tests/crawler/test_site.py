"""Site files: strict, layered, and compiled when they are read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from crawler.site import compile_selector, load_site
from crawler.urls import absolute, host_of, netloc_of
from shards.errors import ConfigError

MINIMAL = """
[site]
name = "x"
start = ["https://shop.example/"]
[follow]
links = "a"
[labels]
rules = [{label = "a", path = ["A"]}]
[listing]
item = "li"
link = "a::attr(href)"
image = ["img::attr(src)"]
"""


@pytest.fixture
def write(tmp_path):
    def make(text: str, name: str = "site.toml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return make


@pytest.mark.parametrize("name", ["thomann", "embedded", "folder", "woocommerce"])
def test_what_comes_with_the_crawler(name):
    site = load_site(name)
    assert site.site.name == name
    assert load_site(name).digest == site.digest


def test_the_embedded_shop_is_crawled_with_the_real_shops_selectors():
    real, embedded = load_site("thomann"), load_site("embedded")
    assert (real.follow, real.labels, real.listing, real.drop) == (
        embedded.follow, embedded.labels, embedded.listing, embedded.drop
    )  # fmt: skip
    assert not real.site.allow_private
    assert embedded.site.allow_private == ("127.0.0.1",)


@pytest.mark.parametrize(
    ("path", "label"),
    [
        (["Electric Guitars", "ST-Models"], "guitar"), (["Acoustic Bass Guitars"], "bass"),
        (["Guitars and Basses"], None), (["Guitars and Basses", "Electric Basses", "5-String Basses"], "bass"),
        (["Guitars and Basses", "Classical Guitars"], "guitar"), (["Drums"], None), ([], None),
    ],
)  # fmt: skip
def test_label_rules_of_the_real_shop(path, label):
    assert load_site("thomann").label_of(path, "https://www.thomann.de/gb/x.html") == label


@pytest.mark.parametrize("text", ["Guitar Amps", "Bass Cases", "Strings", "Drums", "Effects and Pedals", "Cables"])
def test_what_the_real_shops_file_does_not_follow(text):
    assert not load_site("thomann").follows(text, "https://www.thomann.de/gb/x.html")


def test_by_category():
    site = load_site("folder")
    assert site.label_of(("tabla",), "") == "tabla"
    assert site.label_of(("tabla", "small"), "") == "tabla"
    assert site.label_of((), "") is None
    assert site.follows("Strings", "")


def test_limits_are_not_part_of_what_a_crawl_is():
    site = load_site("embedded")
    assert load_site("embedded", limits={"per_host": 2}).digest == site.digest
    assert load_site("embedded", drop={"min_side": 33}).digest != site.digest


def test_files_extend_files(write):
    write(MINIMAL, "base.toml")
    path = write('extends = "base.toml"\n[site]\nname = "y"\n[limits]\nper_host = 3\n', "over.toml")
    site = load_site(path)
    assert (site.site.name, site.site.start, site.limits.per_host) == ("y", ("https://shop.example/",), 3)
    loop = write('extends = "loop.toml"\n', "loop.toml")
    with pytest.raises(ConfigError, match="goes in a circle"):
        load_site(loop)


@pytest.mark.parametrize(
    ("change", "key", "problem"),
    [
        ('links = "a" -> links = "a["', "follow.links", "not a selector"),
        ('item = "li" -> item = "xpath://li["', "listing.item", "not a selector"),
        ('image = ["img::attr(src)"] -> image = ["img::attr("]', "listing.image.0", "not a selector"),
        ('image = ["img::attr(src)"] -> image = []', "listing.image", "at least 1"),
        ('item = "li" -> item = "xpath:count(li)"', "listing.item", "finds a number, where elements or texts"),
        ('item = "li" -> item = "xpath:string(li)"', "listing.item", "finds a string, where elements are needed"),
        ('item = "li" -> item = "li::text"', "listing.item", "finds attributes or texts, where elements are needed"),
        ('links = "a" -> links = "a::attr(href)"', "follow.links", "finds attributes or texts, where elements"),
        ('image = ["img::attr(src)"] -> image = ["xpath:1=1"]', "listing.image.0", "finds true or false"),
        ('image = ["img::attr(src)"] -> image = ["xpath:foo()"]', "listing.image.0", "not a selector"),
        ('name = "x" -> name = "x"\nhosts = ["https://x/"]', "site.hosts", "expected a host such as"),
        ('name = "x" -> name = "x"\nhosts = ["x:8080"]', "site.hosts", "no scheme, no port"),
        ('rules = [{label = "a", path = ["A"]}] -> rules = [{label = "a"}]', "labels.rules.0", "fits nothing"),
        ('[follow]\nlinks = "a"\n -> ', "", "[follow] missing; a [list] of addresses"),
        ('path = ["A"] -> path = ["("]', "labels.rules.0.path.0", "not a regular expression"),
        ('links = "a" -> link = "a"', "follow.link", "did you mean 'links'"),
        ('name = "x" -> name = "x"\nstrat = 1', "site.strat", "did you mean 'start'"),
        ('"https://shop.example/" -> "shop.example"', "site", "not an http(s) address"),
        ('item = "li" -> item = "li"\npage = "?pg=1"', "listing", "{page}"),
        ('item = "li" -> item = "li"\npage = "?p={page}"\nnext = "a"', "listing", "give one of them"),
        ('rules = [{label = "a", path = ["A"]}] -> by = "rules"', "labels", "no rules"),
        ('rules = [{label = "a", path = ["A"]}] -> by = "folder"', "labels.by", "'category'"),
    ],
)
def test_what_is_wrong_is_named(write, change, key, problem):
    before, after = change.split(" -> ")
    assert before in MINIMAL
    path = write(MINIMAL.replace(before, after))
    with pytest.raises(ConfigError, match=re.escape(problem)) as error:
        load_site(path)
    assert (error.value.where, error.value.key) == (str(path), key)


def test_unknown_names_say_what_is_known(tmp_path):
    with pytest.raises(ConfigError, match="known: embedded, folder, thomann, woocommerce"):
        load_site("thoman")
    with pytest.raises(ConfigError, match="no such file"):
        load_site(tmp_path / "nowhere.toml")


def test_hosts():
    site = load_site("thomann", site={"hosts": ["*.static-thomann.de"]})
    assert site.allows("thumbs.static-thomann.de")
    assert not site.allows("static-thomann.de.evil.example")
    assert load_site("embedded", site={"hosts": []}).allows("127.0.0.1")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("SHOP.Example", "http://shop.example/"), ("bücher.example", "http://xn--bcher-kva.example/"),
        ("*.BÜCHER.example", "https://a.bücher.example/"), ("[::1]", "http://[::1]:80/"),
        ("straße.example", "http://Straße.example/"), ("xn--bcher-kva.example", "http://Bücher.example"),
    ],
)  # fmt: skip
def test_hosts_are_compared_as_the_dns_has_them(host, url):
    site = load_site("thomann", site={"hosts": [host], "allow_private": [host]})
    address = absolute("http://none/", url)
    assert address
    assert site.allows(host_of(netloc_of(address)))
    assert load_site("thomann", site={"hosts": [], "start": [url]}).allows(host_of(netloc_of(address)))


def test_xpath_too():
    from lxml import html

    assert compile_selector("xpath:.//a/@href")(html.fromstring('<p><a href="x">y</a></p>')) == ["x"]
