"""How an image of any shape becomes a square: one plan that every decoder follows."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["WHITE", "Plan", "plan"]

WHITE = 255  # shops show products on white; padding with it adds no edge


@dataclass(frozen=True, slots=True)
class Plan:
    """Take the box (top, left, bottom, right) of the source, resize it to (height, width), put it at (y, x)."""

    box: tuple[int, int, int, int]
    height: int
    width: int
    y: int
    x: int

    def keeps(self, size: int) -> bool:
        """Whether the source is the square already, so that nothing is left to do."""
        return (self.box, self.height, self.width, self.y, self.x) == ((0, 0, size, size), size, size, 0, 0)


def plan(height: int, width: int, size: int, fit: str) -> Plan:
    """The plan for a source of height x width pixels; `fit` is pad, crop or stretch, as in a run file."""
    if fit == "stretch":
        return Plan((0, 0, height, width), size, size, 0, 0)
    if fit == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return Plan((top, left, top + side, left + side), size, size, 0, 0)
    longer = max(height, width)
    high, wide = max(1, round(height * size / longer)), max(1, round(width * size / longer))
    return Plan((0, 0, height, width), high, wide, (size - high) // 2, (size - wide) // 2)
