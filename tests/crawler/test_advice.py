"""What is said of a site file that is valid and yet likely wrong."""

from __future__ import annotations

from typing import Any

import pytest

from crawler.advice import advice
from crawler.site import Site
from shards.toml_file import merge

FINE: dict[str, Any] = {
    "site": {"name": "x", "start": ["https://shop.example/"]},
    "follow": {"links": "a"},
    "labels": {"rules": [{"label": "bass", "path": ["(?i)bass"]}, {"label": "guitar", "path": ["(?i)guitar"]}]},
    "listing": {"item": "li", "link": "a::attr(href)", "image": ["img"], "title": "h2", "page": "?page={page}"},
}


def said(**tables: Any) -> list[str]:
    return advice(Site.model_validate(merge(FINE, tables)))


def test_nothing_is_said_of_what_is_fine():
    assert said() == []


@pytest.mark.parametrize(
    ("tables", "line"),
    [
        ({"site": {"hosts": ["cdn.example"]}}, "its host shop.example is not among [site] hosts"),
        ({"site": {"allow_private": ["10.0.0.1"]}}, "allow_private 10.0.0.1: not among [site] hosts"),
        ({"labels": {"rules": [{"label": "a", "path": ["(?i)bass"]}, {"label": "b", "path": ["(?i)bass"]}]}},
         "rule 2 (b) never decides: rule 1 (a) fits all that it fits; put it first"),
        ({"labels": {"rules": [{"label": "a", "path": [".*"]}, {"label": "b", "title": ["x"]}]}}, "rule 2 (b) never"),
        ({"labels": {"rules": [{"label": "a", "path": ["Bass"]}, {"label": "b", "path": ["Bass Guitars"]}]}}, "rule 2"),
        ({"labels": {"rules": [{"label": "a", "path": ["A"]}, {"label": "a", "path": ["B"]}]}}, "one label, a"),
        ({"labels": {"rules": [{"label": "a", "title": ["A"]}]}, "listing": {"title": None}}, "title never fits"),
        ({"labels": {"rules": [], "depth": 9}}, "leads to no category so deep"),
        ({"follow": {"deny_text": [""]}}, "fits everything: no link is followed"),
        ({"follow": {"allow_url": ["/b"], "deny_url": ["/b"]}}, "deny wins"),
        ({"follow": {"depth": 0, "deny_url": ["/b"]}}, "no effect"),
        ({"follow": {"deny_url": ["^/cart"]}}, "[follow] deny_url '^/cart' never fits: addresses begin with http"),
        ({"drop": {"image": [r"^\/x"]}}, "[drop] image"),
        ({"drop": {"image": ["no photo"]}}, "no spaces in addresses"),
        ({"drop": {"title": ["a  b"]}}, "all white space is one space"),
        ({"drop": {"title": ["^Fender"]}, "listing": {"maker": "b"}}, "begins with the maker"),
        ({"drop": {"price": ["^0"]}}, "no selector 'price'"),
        ({"listing": {"page": None}}, "only the first result page"),
        ({"listing": {"title": "xpath://h2"}}, "looks in the whole page"),
        ({"listing": {"image": ["img::attr(src)"], "image_width": 300}}, "image_width has no effect"),
        ({"listing": {"image": ["img", "img"]}}, "is there twice"),
        ({"limits": {"rate_per_host": 0}}, "set a rate"),
        ({"limits": {"per_host": 99}}, "which then binds"),
    ],
)  # fmt: skip
def test_what_is_likely_wrong(tables, line):
    lines = said(**tables)
    assert any(line in one for one in lines), lines


@pytest.mark.parametrize(
    "pattern", ["^https?://shop", "(?i)^HTTPS", "/a|^/b", "^.+x", "^(http|ftp)", r"[ ]x", "^a?h", "bass|[ ]", ".*/x"]
)
def test_what_may_fit_is_not_complained_of(pattern):
    assert said(follow={"deny_url": [pattern]}) == []


def test_rules_that_may_decide_are_not_complained_of():
    rules = [{"label": "bass", "path": [r"\bbass\b"]}, {"label": "guitar", "path": ["(?i)bass guitar"]},
             {"label": "amp", "path": ["Bass Amps"], "url": ["/amps/"]}]  # fmt: skip
    assert said(labels={"rules": rules}) == []
