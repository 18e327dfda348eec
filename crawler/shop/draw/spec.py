"""What a picture is drawn from: a few facts and a seed, so that a colour variant is the same picture repainted."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Spec"]


@dataclass(frozen=True, slots=True)
class Spec:
    """Drawing parameters of one product.

    Attributes:
        style: which body or thing is drawn: a key of `bodies.BODIES` or of `extras.EXTRAS`.
        strings: number of strings (12 for six courses), 0 for things that are not instruments.
        scale_in: nut to bridge in inches, 0.0 for things that are not instruments.
        finish: name of a finish in `finishes.FINISHES`.
        left_handed: mirrored, as a left-handed instrument is.
        seed: chooses shape, hardware, pose, light and ground; colour variants share it.
    """

    style: str
    strings: int
    scale_in: float
    finish: str
    left_handed: bool
    seed: int
