"""Which label a product gets: rules in order over path, address and title, and a policy for products found under two.

Everything here is a function of the site file and of what was seen, so it depends on no order of arrival.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from crawler.selectors import Pattern, compile_pattern
from shards.toml_file import StrictModel

__all__ = ["Decision", "LabelRule", "Labels"]


Count = Annotated[int, Field(ge=1)]


class LabelRule(StrictModel):
    """[[labels.rules]]: gives `label` where any one of its patterns is found.

    `path` is searched in the names of the categories ("Basses / 4-String"), `url` in the category's address, `title` in
    the product's maker and title.
    """

    label: str = Field(min_length=1, max_length=200)
    path: tuple[Pattern, ...] = ()
    url: tuple[Pattern, ...] = ()
    title: tuple[Pattern, ...] = ()

    @model_validator(mode="after")
    def _says_something(self) -> LabelRule:
        if not (self.path or self.url or self.title):
            raise ValueError("a rule without path, url or title fits nothing: give one of them")
        return self

    def fits(self, path: str, url: str, title: str) -> bool:
        """Whether any pattern is found."""
        return _any(self.path, path) or _any(self.url, url) or (bool(title) and _any(self.title, title))


@dataclass(frozen=True, slots=True)
class Decision:
    """What the rules say: the label (None: none fits), the rule's number from 0, and the rules of other labels that fit
    as well."""

    label: str | None
    rule: int | None = None
    also: tuple[int, ...] = ()


class Labels(StrictModel):
    """[labels]: rules in order, the first that fits wins, or every category is a label of its own.

    With rules, labels are numbered in the order they first stand in the file; by category, in the order of their names.
    """

    by: Literal["rules", "category"] = Field(default="category", description="by default rules, if there are any")
    depth: int = Field(default=1, ge=1, description="by category: which part of the path is the label")
    rules: tuple[LabelRule, ...] = ()
    conflict: Literal["drop", "first-rule", "deepest"] = Field(
        default="drop",
        description="a product found under two labels: dropped; or the label whose rule stands first; or that of the "
        "deepest category, dropped if two are as deep",
    )

    quota: Count | dict[str, Count] | None = Field(
        default=None, description="samples a label may have: one number for all, or a table by label"
    )

    @model_validator(mode="after")
    def _quotas_are_of_labels(self) -> Labels:
        if isinstance(self.quota, dict) and self.by == "rules":
            for label in self.quota:
                if label not in self.names:
                    raise ValueError(f"quota: no rule gives the label {label!r}; known: {', '.join(self.names)}")
        return self

    def quota_of(self, label: str) -> int | None:
        """How many samples a label may have; None is no limit."""
        return self.quota.get(label) if isinstance(self.quota, dict) else self.quota

    @model_validator(mode="before")
    @classmethod
    def _by_rules_where_there_are_any(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and "by" not in data:
            return {**data, "by": "rules" if data.get("rules") else "category"}
        return data

    @model_validator(mode="after")
    def _rules_or_category(self) -> Labels:
        if self.by == "rules" and not self.rules:
            raise ValueError('no rules: add [[labels.rules]], or set by = "category"')
        if self.by == "category" and self.conflict == "first-rule":
            raise ValueError('conflict: "first-rule" needs rules; by category, take "drop" or "deepest"')
        return self

    @property
    def by_title(self) -> bool:
        """Whether a product's title may decide."""
        return self.by == "rules" and any(rule.title for rule in self.rules)

    @property
    def names(self) -> list[str]:
        """The labels that the rules name, in their order; empty by category."""
        return list(dict.fromkeys(rule.label for rule in self.rules)) if self.by == "rules" else []

    def decide(self, path: Sequence[str], url: str, title: str = "") -> Decision:
        """The label of a category, or of a product in it.

        Args:
            path: names of the categories from the start page down.
            url: the category's address.
            title: the product's maker and title; empty for the category itself.
        """
        if self.by == "category":
            return Decision(path[self.depth - 1] if len(path) >= self.depth and path[self.depth - 1] else None)
        joined = " / ".join(path)
        fitting = [number for number, rule in enumerate(self.rules) if rule.fits(joined, url, title)]
        if not fitting:
            return Decision(None)
        label = self.rules[fitting[0]].label
        return Decision(label, fitting[0], tuple(n for n in fitting[1:] if self.rules[n].label != label))

    def resolve(self, found: Mapping[str, int]) -> tuple[str, str | None]:
        """The label of a product found under several, and another one if the policy is to drop it.

        Args:
            found: for each label, the depth of the deepest category with it that lists the product.
        """
        order = {name: number for number, name in enumerate(self.names)}
        ranked = sorted(found, key=lambda name: (order.get(name, len(order)), name))
        if self.conflict == "deepest":
            deepest = max(found.values())
            ranked = [name for name in ranked if found[name] == deepest]
        if self.conflict == "first-rule" or len(ranked) == 1:
            return ranked[0], None
        return ranked[0], ranked[1]


def _any(patterns: Sequence[str], text: str) -> bool:
    return any(compile_pattern(pattern).search(text) for pattern in patterns)
