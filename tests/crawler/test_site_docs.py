"""docs/site-files.md: its examples load, and it names every key there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from crawler.advice import advice
from crawler.labels import LabelRule
from crawler.site import Drop, Follow, Listing, Site, SiteName, load_site
from crawler.url_list import UrlList

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "site-files.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```toml\n(.*?)```", TEXT, re.S)


@pytest.fixture
def sites(tmp_path: Path) -> list[Site]:
    made = []
    for number, example in enumerate(EXAMPLES):
        path = tmp_path / f"{number}.toml"
        path.write_text(example, encoding="utf-8")
        made.append(load_site(path))
    return made


def test_the_examples_load_and_nothing_is_amiss_in_them(sites: list[Site]) -> None:
    assert [advice(site) for site in sites] == [[], []]
    worked = sites[0]
    assert worked.label_of(["Sale"], "https://shop.example/instruments/sale", "Foo Jazz Bass") == "bass"
    assert worked.label_of(["Acoustic Bass Guitars"], "https://shop.example/x") == "bass"
    assert worked.allows("img.cdn.example")
    assert not worked.follows("Guitar Amps", "https://shop.example/instruments/amps")


@pytest.mark.parametrize("model", [SiteName, Follow, LabelRule, Listing, Drop, UrlList])
def test_every_key_is_named(model: type) -> None:
    missing = [name for name in model.model_fields if f"`{name}`" not in TEXT]  # type: ignore[attr-defined]
    assert not missing
