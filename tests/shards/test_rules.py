from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.errors import ConfigError
from shards.rules import parse
from shards.sample import Sample
from shards.shard_set import ShardSet
from shards.writer import write_set

from .conftest import Draw

METAS = [
    {"title": "Fender Jazz Bass", "image_url": "https://s.test/1.jpg", "price": 900, "label_path": ["Guitars", "Bass"]},
    {"title": "Bass CASE, black", "product_url": "https://s.test/p/case", "price": "20"},
    {"title": 'Guitar "Deluxe"', "group": 7, "price": None, "deep": {"er": 3}},
    {"group": 7, "sold": True},
]


@pytest.fixture(scope="module")
def mixed(draw: Draw, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShardSet]:
    """Four samples: bass 40x32, bass 80x64, guitar 200x100, guitar 20x20 as PNG."""
    sizes = [(40, 32), (80, 64), (200, 100), (20, 20)]
    samples = [
        Sample(
            f"k{n}", draw(n, "PNG" if n == 3 else "JPEG", sizes[n]), "png" if n == 3 else "jpg", int(n > 1), METAS[n]
        )
        for n in range(4)
    ]
    with write_set(tmp_path_factory.mktemp("rules") / "set", samples, ["bass", "guitar"], source={}) as made:
        yield made


@pytest.mark.parametrize(
    ("rule", "means"),
    [
        ("width < 100", [0, 1, 3]),
        ("width<100 and height>=32", [0, 1]),
        ("longer = 200", [2]),
        ("shorter<=20", [3]),
        ("pixels > 5k", [1, 2]),
        ("aspect > 1.5", [2]),
        ("bytes < 1m", [0, 1, 2, 3]),
        ("group_size > 1", [2, 3]),
        ("label = bass", [0, 1]),
        ("label=guitar", [2, 3]),
        ("label != bass", [2, 3]),
        ("label ~ /^gui/", [2, 3]),
        ("ext = png", [3]),
        ("key = k1 or key ~ /2$/", [1, 2]),
        ("title~/case|bag/i", [1]),
        ("title ~ /case/", []),
        ("title !~ /bass/i", [2, 3]),
        ('title = ""', [3]),
        ("title = 'Guitar \"Deluxe\"'", [2]),
        (r"url ~ /s\.test\/1/", [0]),
        ("product_url ~ /case/", [1]),
        ('label_path = "Guitars > Bass"', [0]),
        ("json.price > 100", [0]),
        ("json.price < 100", [1]),
        ("json.price != 20", [0]),
        ("json.deep.er = 3", [2]),
        ("json.sold = true", [3]),
        ("label = bass and width > 50 or ext = png", [1, 3]),
        ("label = bass and (width > 50 or ext = png)", [1]),
        ("not label = bass", [2, 3]),
        ("NOT (width < 100 OR ext = png)", [2]),
    ],
)
def test_what_a_rule_means(mixed: ShardSet, rule: str, means: list[int]) -> None:
    assert parse(rule).matches(mixed).nonzero()[0].tolist() == means


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("", "character 1: expected a field"),
        ("widht < 3", "no field 'widht'; did you mean 'width'"),
        ("xyzzy = 3", "no field 'xyzzy'; known: label"),
        ("width", "character 6: expected one of = !="),
        ("width < ", "expected a number, a word"),
        ("width < wide", "expected a number, such as"),
        ("width ~ /1/", "width: it is a number"),
        ("title < 3", "title: it is words"),
        ("json.price < cheap", "< needs a number"),
        ("title ~ bass", "expected a /pattern/"),
        ("title ~ /(/", r"is no pattern"),
        ("title ~ /a/x", "the only flag is i"),
        ("(width < 3", r"expected `\)`"),
        ("width < 3 height > 2", "expected `and`, `or` or the end, not 'height'"),
        ('title = "open', "opens what is not closed"),
        ("title ~ /open", "opens what is not closed"),
        ("not " * 60 + "width < 3", "inside each other"),
        ("__import__('os').system('x')", "no field"),
    ],
)
def test_what_is_no_rule_is_named_with_its_place(rule: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as told:
        parse(rule)
    assert "\n" not in str(told.value)


def test_a_label_that_the_set_has_not(mixed: ShardSet) -> None:
    with pytest.raises(ConfigError, match="no label 'guitr'; did you mean 'guitar'"):
        parse("width < 3 or label = guitr").matches(mixed)


@given(st.text(alphabet="abwidthlno ()<>=!~\"/'\\.013", max_size=40))
def test_any_text_is_a_rule_or_an_error_of_ours(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert str(parse(text)) == text


_leaf = st.sampled_from(["width < 50", "label = bass", "group_size > 1", "ext = png", "title ~ /bass/i"])
_rules = st.recursive(
    _leaf,
    lambda inner: st.one_of(
        inner.map(lambda rule: f"not ({rule})"),
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda three: "({} {} {})".format(*three)),
    ),
    max_leaves=6,
)


@given(rule=_rules)
def test_rules_are_logic(mixed: ShardSet, rule: str) -> None:
    """Against Python's own `and`, `or`, `not` over the leaves, sample by sample."""
    leaves = ["width < 50", "label = bass", "group_size > 1", "ext = png", "title ~ /bass/i"]
    masks = {leaf: parse(leaf).matches(mixed).tolist() for leaf in leaves}
    for i, found in enumerate(parse(rule).matches(mixed).tolist()):
        text = rule
        for leaf in leaves:
            text = text.replace(leaf, str(masks[leaf][i]))
        assert found == eval(text)
