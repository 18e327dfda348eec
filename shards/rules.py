"""Rules that say which samples are meant: `width < 100`, `label = bass and title ~ /case|bag/i`. Nothing is evaluated.

rule        one or more terms joined by "or"
term        one or more factors joined by "and"; binds closer than "or"
factor      "not" factor, "(" rule ")", or a comparison
comparison  FIELD OPERATOR VALUE
operator    = != < <= > >= for numbers, = != for words, ~ !~ (finds, finds not) for /patterns/
value       100, 1.5, 20k, bare-word, "quoted words", /pattern/ or /pattern/i (case does not matter)
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.errors import ConfigError
from shards.pages import Pages
from shards.shard_set import ShardSet

__all__ = ["NUMBERS", "TEXTS", "Rule", "parse"]

Mask = NDArray[np.bool_]


def _group_sizes(source: ShardSet) -> NDArray[np.int64]:
    _, inverse, sizes = np.unique(source.groups, return_inverse=True, return_counts=True)
    return sizes[inverse].astype(np.int64)


def _aspect(source: ShardSet) -> NDArray[np.float64]:
    found = np.full(len(source), np.nan)
    np.divide(source.widths, source.heights, out=found, where=source.heights > 0)
    return found


NUMBERS: dict[str, Callable[[ShardSet], NDArray[Any]]] = {
    "width": lambda source: source.widths,
    "height": lambda source: source.heights,
    "shorter": lambda source: np.minimum(source.widths, source.heights),
    "longer": lambda source: np.maximum(source.widths, source.heights),
    "pixels": lambda source: source.widths * source.heights,
    "aspect": _aspect,
    "bytes": lambda source: source.sizes,
    "group": lambda source: source.groups,
    "group_size": _group_sizes,
}
"""Numbers of every sample: pixels as stored (0: the header does not say), width / height, bytes of the image, number
and size of its group of near-duplicates."""

TEXTS = {
    "title": "title",
    "url": "image_url",
    "product_url": "product_url",
    "listing_url": "listing_url",
    "label_path": "label_path",
    "maker": "maker",
    "site": "site",
}
"""Words from the samples' JSON by its key there; a list is joined by " > ", and what is missing is ""."""

_OWN = ("label", "key", "ext")
_TOKEN = re.compile(
    r"""\s*(?:(?P<paren>[()])
    | (?P<op><=|>=|!=|!~|==|=|<|>|~)
    | /(?P<pattern>(?:[^/\\]|\\.)*)/(?P<flags>\w*)
    | "(?P<quoted>[^"]*)" | '(?P<single>[^']*)'
    | (?P<word>[^\s()<>=!~"'/]+))""",
    re.VERBOSE,
)
_NUMBER = re.compile(r"([+-]?\d+(?:\.\d+)?)([kKmM]?)")
_SCALE = {"": 1, "k": 1000, "m": 1_000_000}
_DEPTH = 50


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # "paren", "op", "pattern", "quoted", "word" or "end"
    text: str
    at: int
    flags: str = ""


@dataclass(frozen=True, slots=True)
class _Comparison:
    field: str
    op: str
    number: float | None
    text: str
    pattern: re.Pattern[str] | None


@dataclass(frozen=True, slots=True)
class _Joined:
    """ "and" or "or" of several, or "not" of one."""

    how: str
    parts: tuple[_Node, ...]


_Node = _Comparison | _Joined


@dataclass(frozen=True, slots=True)
class Rule:
    """A parsed rule; `str(rule)` is what the user wrote. Build one with `parse`."""

    text: str
    node: _Node

    def __str__(self) -> str:
        return self.text

    def matches(self, source: ShardSet, on_progress: Callable[[int], None] | None = None) -> Mask:
        """Which samples the rule means, bool (N,). Numbers and labels cost nothing; words read each sample's JSON once.

        Args:
            source: an opened set.
            on_progress: called with the number of samples whose JSON was read.

        Raises:
            ConfigError: the rule names a label that the set has not.
            ShardError: a sample's JSON is none.
        """
        fields = {comparison.field for comparison in _comparisons(self.node)}
        for comparison in _comparisons(self.node):
            if comparison.field == "label" and comparison.op in ("=", "!=") and comparison.text not in source.labels:
                near = difflib.get_close_matches(comparison.text, source.labels, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"the set has {', '.join(source.labels)}"
                raise ConfigError(self.text, "label", f"no label {comparison.text!r}; {hint}")
        texts = dict(_texts(source, fields, on_progress))
        return _evaluate(self.node, source, texts)


def parse(text: str) -> Rule:
    """Reads a rule.

    Raises:
        ConfigError: it is none; names the place and what was expected.
    """
    return Rule(text, _Parser(text).whole())


class _Parser:
    def __init__(self, text: str) -> None:
        self._text, self._tokens, self._next, self._depth = text, list(_tokens(text)), 0, 0

    def whole(self) -> _Node:
        node = self._rule()
        if self._here.kind != "end":
            raise self._wrong("`and`, `or` or the end")
        return node

    @property
    def _here(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        self._next += 1
        return self._tokens[self._next - 1]

    def _is(self, word: str) -> bool:
        return self._here.kind in ("word", "paren") and self._here.text.lower() == word

    def _wrong(self, expected: str) -> ConfigError:
        here = self._here
        found = "the end" if here.kind == "end" else repr(here.text)
        return ConfigError(self._text, "", f"at character {here.at + 1}: expected {expected}, not {found}")

    def _rule(self) -> _Node:
        return self._chain("or", lambda: self._chain("and", self._factor))

    def _chain(self, word: str, inner: Callable[[], _Node]) -> _Node:
        parts = [inner()]
        while self._is(word):
            self._take()
            parts.append(inner())
        return parts[0] if len(parts) == 1 else _Joined(word, tuple(parts))

    def _factor(self) -> _Node:
        self._depth += 1
        if self._depth > _DEPTH:
            raise ConfigError(self._text, "", f"more than {_DEPTH} `not` and parentheses inside each other")
        try:
            if self._is("not"):
                self._take()
                return _Joined("not", (self._factor(),))
            if self._is("("):
                self._take()
                node = self._rule()
                if not self._is(")"):
                    raise self._wrong("`)`")
                self._take()
                return node
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> _Comparison:
        if self._here.kind != "word":
            raise self._wrong("a field, such as width, label or title")
        field = self._here.text
        if field not in NUMBERS and field not in TEXTS and field not in _OWN and not field.startswith("json."):
            known = [*_OWN, *NUMBERS, *TEXTS]
            near = difflib.get_close_matches(field, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}, json.NAME"
            raise ConfigError(self._text, "", f"at character {self._here.at + 1}: no field {field!r}; {hint}")
        self._take()
        if self._here.kind != "op":
            raise self._wrong("one of = != < <= > >= ~ !~")
        op = self._here.text.replace("==", "=")
        self._take()
        value = self._here
        if op in ("~", "!~"):
            if field in NUMBERS:
                raise ConfigError(self._text, field, f"it is a number; {op} looks into words, use = != < <= > >=")
            if value.kind != "pattern":
                raise self._wrong("a /pattern/ or /pattern/i")
            self._take()
            return _Comparison(field, op, None, value.text, self._compile(value))
        if value.kind not in ("word", "quoted"):
            raise self._wrong('a number, a word or "several words"')
        self._take()
        number = _number(value.text) if value.kind == "word" else None
        if field in NUMBERS and number is None:
            raise ConfigError(self._text, field, f"{value.text!r}; expected a number, such as 100, 1.5 or 20k")
        if op not in ("=", "!=") and number is None:
            raise ConfigError(self._text, field, f"{value.text!r}; {op} needs a number")
        if field in (*_OWN, *TEXTS) and op not in ("=", "!="):
            raise ConfigError(self._text, field, f"it is words, not a number; {op} does not apply, use = != ~ !~")
        return _Comparison(field, op, number, value.text, None)

    def _compile(self, value: _Token) -> re.Pattern[str]:
        if value.flags not in ("", "i"):
            raise ConfigError(self._text, "", f"/{value.text}/{value.flags}: the only flag is i, for any case")
        try:
            return re.compile(value.text.replace("\\/", "/"), re.IGNORECASE if value.flags else 0)
        except re.error as error:
            raise ConfigError(self._text, "", f"/{value.text}/ is no pattern: {error}") from None


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while text[at:].strip():
        found = _TOKEN.match(text, at)
        start = at + len(text[at:]) - len(text[at:].lstrip())
        if not found:
            raise ConfigError(text, "", f"at character {start + 1}: {text[start]!r} opens what is not closed")
        kind = found.lastgroup or ""
        if kind == "flags":
            yield _Token("pattern", found["pattern"], start, found["flags"])
        else:
            yield _Token("quoted" if kind == "single" else kind, found[kind], start)
        at = found.end()
    yield _Token("end", "", len(text))


def _number(text: str) -> float | None:
    found = _NUMBER.fullmatch(text)
    return float(found[1]) * _SCALE[found[2].lower()] if found else None


def _comparisons(node: _Node) -> Iterator[_Comparison]:
    if isinstance(node, _Comparison):
        yield node
    else:
        for part in node.parts:
            yield from _comparisons(part)


def _texts(
    source: ShardSet, fields: set[str], on_progress: Callable[[int], None] | None
) -> Iterator[tuple[str, list[Any]]]:
    """The columns that the index does not have: values from the JSON by field."""
    if "key" in fields:
        yield "key", [source.key(i) for i in range(len(source))]
    wanted = {field: TEXTS.get(field, field.removeprefix("json.")) for field in fields - {*_OWN, *NUMBERS}}
    if not wanted:
        return
    columns: dict[str, list[Any]] = {field: [] for field in wanted}
    pages = Pages(source)
    for i in range(len(source)):
        meta = source.meta(i)
        pages.count(int(source.index.rows[i]["json_size"]))
        for field, name in wanted.items():
            columns[field].append(_looked_up(meta, name))
        if on_progress and not (i + 1) % 1024:
            on_progress(i + 1)
    yield from columns.items()


def _looked_up(meta: dict[str, Any], name: str) -> Any:
    """The value at a dotted name: a key of that very name, or a way down through objects; None if there is none."""
    if name in meta:
        return meta[name]
    found: Any = meta
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _words(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return " > ".join(map(_words, value))
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _evaluate(node: _Node, source: ShardSet, texts: dict[str, list[Any]]) -> Mask:
    if isinstance(node, _Joined):
        masks = [_evaluate(part, source, texts) for part in node.parts]
        if node.how == "not":
            return ~masks[0]
        join = np.logical_and if node.how == "and" else np.logical_or
        return np.asarray(join.reduce(masks), bool)
    if node.field in NUMBERS:
        assert node.number is not None
        return _compare(NUMBERS[node.field](source), node.op, node.number)
    if node.field in ("label", "ext"):
        names = source.labels if node.field == "label" else ("jpg", "png", "webp")
        meant = np.array([_says(node, name) for name in names], bool)
        numbers = source.label_ids if node.field == "label" else source.index.rows["ext"]
        return meant[numbers] if len(names) else np.zeros(len(source), bool)
    values = texts[node.field]
    if node.number is not None and node.field.startswith("json."):
        # what is no number there matches no comparison with one, except as the same word
        numbers = np.array([_as_number(value) for value in values], np.float64)
        return _compare(numbers, node.op, node.number)
    return np.fromiter((_says(node, _words(value)) for value in values), bool, len(values))


def _as_number(value: Any) -> float:
    if isinstance(value, bool) or value is None:
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _compare(values: NDArray[Any], op: str, number: float) -> Mask:
    known = ~np.isnan(values) if values.dtype.kind == "f" else np.ones(len(values), bool)
    how: dict[str, Callable[[Any, Any], Any]] = {
        "=": np.equal,
        "!=": np.not_equal,
        "<": np.less,
        "<=": np.less_equal,
        ">": np.greater,
        ">=": np.greater_equal,
    }
    return np.asarray(how[op](values, number) & known, bool)


def _says(node: _Comparison, text: str) -> bool:
    if node.pattern is not None:
        return (node.pattern.search(text) is not None) == (node.op == "~")
    return (text == node.text) == (node.op == "=")
