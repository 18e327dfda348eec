"""Selectors and patterns of site files, compiled and tried once, when the file is read.

A selector that finds another kind of thing than its place needs, or that libxml2 can compile but not run, is refused
there, with its key, instead of finding nothing on every page.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any

from lxml import etree, html  # type: ignore[import-untyped]
from parsel.csstranslator import HTMLTranslator
from pydantic import AfterValidator, Field

__all__ = [
    "NodeSelector",
    "Pattern",
    "Selector",
    "compile_pattern",
    "compile_selector",
    "found_by",
    "found_in_each",
]

MAX_CHARS = 2_000  # of a selector or a pattern: one is a line, not a program

# What a page has: enough for a predicate or a function in a selector to be run at all.
_SAMPLE = """<html><head><base href="/"><link rel="next" href="/2"></head><body class="a"><nav><ol>
<li><a href="/">x</a></li></ol></nav><ul class="products"><li class="product" id="p"><a href="/1" title="t"><picture>
<source srcset="1.jpg 1x"><img src="/1.jpg" alt="1" data-src="/1.jpg"></picture></a><h2>x</h2><h3>x</h3><p>x<b>1</b></p>
<span class="price">1</span><noscript><img src="/1.jpg"></noscript></li></ul><div><section><article><table><tr><td>
<form><button>x</button></form></td></tr></table></article></section></div></body></html>"""
_VALUES = re.compile(r"(?:/@[\w:*-]+|/text\(\)|/attribute::[\w:*-]+)\s*\Z")
_CSS = HTMLTranslator()


@lru_cache(maxsize=512)
def compile_selector(selector: str) -> Callable[[Any], Any]:
    """Compiles a selector: CSS with parsel's ::text and ::attr(name), or XPath after "xpath:".

    Raises:
        ValueError: it is neither, or it cannot be run.
    """
    if len(selector) > MAX_CHARS:
        raise ValueError(f"not a selector: longer than {MAX_CHARS:,} characters")
    try:
        compiled: Callable[[Any], Any] = etree.XPath(_xpath(selector))
        compiled(_sample())
    except Exception as error:  # cssselect and lxml have no common base for what can be wrong with a selector
        raise ValueError(f"not a selector: {_line(error)}") from None
    return compiled


def found_by(selector: str, element: Any) -> list[Any]:
    """What a selector finds below an element: elements and texts in the order of the page; never raises.

    A string that XPath makes (`normalize-space(h2)`) counts as one text; an empty one as nothing found.
    """
    try:
        found = compile_selector(selector)(element)
    except (etree.XPathError, TypeError, RecursionError):  # what the sample page did not bring to light
        return []
    if isinstance(found, list):
        return found
    return [found] if isinstance(found, str) and found else []


def found_in_each(selector: str, root: Any, elements: Sequence[Any]) -> Mapping[Any, list[Any]]:
    """`found_by` for each of some elements of a page; those in which nothing is found may be absent.

    Where what a selector finds depends on nothing above the element, the page is searched once for all of them:
    starting libxml2 costs 15 us, which for 100 products and four selectors was half of reading a page.

    Args:
        root: of the page.
        elements: below it; they may lie in each other.
    """
    above = _steps_above(selector)
    if above is None:
        return {element: found_by(selector, element) for element in elements}
    inside: dict[Any, list[Any]] = {element: [] for element in elements}
    for found in found_by(selector, root):
        at = found
        if isinstance(found, str):
            at = found.getparent()  # type: ignore[attr-defined]  # lxml's strings know where they come from
            if found.is_tail:  # type: ignore[attr-defined]
                at = at.getparent()
        for _ in range(above):
            at = at.getparent()
        while at is not None:
            if at in inside:
                inside[at].append(found)
            at = at.getparent()
    return inside


_SIMPLE = r"(?:[\w-]+|\*)?(?:[.#][\w-]+|\[[\w-]+\])*"
_CHILDREN = re.compile(rf"{_SIMPLE}(?: ?> ?{_SIMPLE})*(?:::text|::attr\([\w-]+\))?")


@lru_cache(maxsize=512)
def _steps_above(selector: str) -> int | None:
    """How many parents up from what a selector finds it looks; None if further, or not to be said."""
    if not _CHILDREN.fullmatch(selector) or selector.startswith(("xpath:", ":", ">", " ")):
        return None
    return selector.count(">")


@lru_cache(maxsize=512)
def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compiles a regular expression; searched for, not matched from the start.

    Raises:
        ValueError: it is none.
    """
    if len(pattern) > MAX_CHARS:
        raise ValueError(f"not a regular expression: longer than {MAX_CHARS:,} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "possible nested set": a remark for programmers
            return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"not a regular expression: {_line(error)}") from None


def _xpath(selector: str) -> str:
    return selector.removeprefix("xpath:") if selector.startswith("xpath:") else _CSS.css_to_xpath(selector)


@lru_cache(maxsize=1)
def _sample() -> Any:
    return html.fromstring(_SAMPLE)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _values(selector: str) -> str:
    """A selector that may find texts: nodes, attributes, or a string that XPath makes."""
    found = compile_selector(selector)(_sample())
    if isinstance(found, bool | float):
        kind = "true or false" if isinstance(found, bool) else "a number"
        raise ValueError(f"finds {kind}, where elements or texts are needed: {selector!r}")
    return selector


def _nodes(selector: str) -> str:
    """A selector that finds elements."""
    found = compile_selector(_values(selector))(_sample())
    if isinstance(found, str):
        raise ValueError(f"finds a string, where elements are needed: {selector!r}")
    if _VALUES.search(_xpath(selector)):
        raise ValueError(f"finds attributes or texts, where elements are needed: {selector!r}")
    return selector


def _pattern(pattern: str) -> str:
    compile_pattern(pattern)
    return pattern


Selector = Annotated[str, Field(min_length=1), AfterValidator(_values)]
NodeSelector = Annotated[str, Field(min_length=1), AfterValidator(_nodes)]
Pattern = Annotated[str, AfterValidator(_pattern)]
