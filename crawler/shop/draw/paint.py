"""A body's paint and the light on it, worked out per pixel at the picture's own size.

A blurred mask stands in for the distance to the rim: its value gives bursts and bindings, its slope the bevel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from crawler.shop.draw.finishes import Finish
from crawler.shop.draw.geometry import Points, Pose
from crawler.shop.draw.textures import sample

__all__ = ["SUPER", "Light", "Photo", "blurred", "coverage"]

Field = NDArray[np.float32]
Colour = Sequence[float]

SUPER = 3  # sub-pixels a side: frets and strings are thinner than a pixel


def coverage(polygons: Sequence[Points], size: int) -> Image.Image:
    """How much of each pixel the polygons (in pixels) cover: a size x size image of 0 to 255."""
    fine = Image.new("L", (size * SUPER, size * SUPER))
    draw = ImageDraw.Draw(fine)
    for polygon in polygons:
        draw.polygon((polygon * SUPER).ravel().tolist(), fill=255)
    return fine.reduce(SUPER)


def blurred(mask: Image.Image, radius_px: float) -> Field:
    """The mask as 0..1, softened by about a Gaussian of `radius_px`: two box blurs, one where it is under a pixel."""
    soft = mask.filter(ImageFilter.BoxBlur(radius_px))
    if radius_px >= 1:
        soft = soft.filter(ImageFilter.BoxBlur(radius_px))
    return np.asarray(soft, np.float32) * np.float32(1 / 255)


class Light:
    """Where the lamp stands and how hard it is; one a picture."""

    def __init__(self, rng: np.random.Generator) -> None:
        angle = rng.normal(-2.2, 0.5)  # from the upper left, as most product photographs are lit
        self.x, self.y = float(np.cos(angle)), float(np.sin(angle))
        self.bevel = float(rng.uniform(0.25, 0.8))
        self.gloss = float(rng.choice((0.02, 0.16, 0.34), p=(0.28, 0.42, 0.30)))
        self.place = float(rng.uniform(-0.5, 0.5))
        self.width = float(rng.uniform(0.08, 0.25))


class Photo:
    """The picture while it is painted: (3, size, size) float32, 0 to 255.

    One plane a colour: numpy's loops over a last axis of three take several times as long.
    """

    def __init__(self, ground: Field) -> None:
        self.pixels = ground
        self.size = ground.shape[1]

    def blend(self, alpha: Field, colour: Field, window: tuple[slice, slice]) -> None:
        """Lay (3, h, w) `colour` over `window` of the picture with (h, w) `alpha` of 0..1."""
        target = self.pixels[:, *window]
        target += alpha * (colour - target)

    def darken(self, amount: Field) -> None:
        """A shadow: multiply by 1 - amount."""
        self.pixels *= 1 - amount

    def cropped(
        self, mask: Image.Image, bounds: tuple[int, int, int, int], pose: Pose
    ) -> tuple[Image.Image, tuple[slice, slice], Field, Field]:
        """The picture around `bounds`: the mask cut to it, its window, and each pixel's x and y in inches."""
        pad = 3
        left, upper = max(bounds[0] - pad, 0), max(bounds[1] - pad, 0)
        right, lower = min(bounds[2] + pad, self.size), min(bounds[3] + pad, self.size)
        ys, xs = np.mgrid[upper:lower, left:right].astype(np.float32) + np.float32(0.5)
        return mask.crop((left, upper, right, lower)), (slice(upper, lower), slice(left, right)), *pose.inverse(xs, ys)

    def body(
        self,
        mask: Image.Image,
        pose: Pose,
        finish: Finish,
        light: Light,
        rng: np.random.Generator,
        top: str,
        binding: Colour | None,
    ) -> None:
        """Paint the body under `mask` with its finish, its grain, its binding and the light on it."""
        bounds = mask.getbbox()
        if bounds is None:
            return
        crop, window, x_in, y_in = self.cropped(mask, bounds, pose)
        alpha = np.asarray(crop, np.float32) * np.float32(1 / 255)
        inch = pose.pixels_per_inch
        rim = blurred(crop, 0.28 * inch + 0.3)
        deep = np.clip(blurred(crop, 1.15 * inch) * 2 - 1, 0, 1)
        colour = _finish(finish, deep, x_in, y_in, rng, top)

        # light: the slope of the rim is the bevel, the slope of the belly the carve
        slope_y, slope_x = np.gradient(rim)
        shade = (slope_x * light.x + slope_y * light.y) * (-light.bevel * 1.6)
        if top in ("carved", "hollow"):
            belly_y, belly_x = np.gradient(deep)
            shade -= (belly_x * light.x + belly_y * light.y) * light.bevel * 1.8
        across = (x_in * light.x + y_in * light.y) / 14
        shade -= 0.10 * across
        colour *= 1 + shade
        colour += np.clip(shade, 0, 1) * (160 * light.gloss)
        band = np.exp(-(((across - light.place) / light.width) ** 2)) * (0.4 + 0.6 * deep) * light.gloss
        colour += band * (255 - colour)
        if binding is not None:
            edge = np.clip((0.97 - blurred(crop, 0.16 * inch + 0.1)) * 5, 0, 1) * np.float32(0.85)
            colour += edge * (np.asarray(binding, np.float32)[:, None, None] * (1 + 0.5 * shade) - colour)
        else:
            colour *= np.clip(0.55 + rim * 0.55, 0, 1)
        self.blend(alpha, np.clip(colour, 0, 255, out=colour), window)


def _finish(finish: Finish, deep: Field, x_in: Field, y_in: Field, rng: np.random.Generator, top: str) -> Field:
    """The finish without light: (3, h, w) float32. `deep` is 0 at the rim, 1 well inside."""
    shift = (int(rng.integers(512)), int(rng.integers(512)))
    ramp_at = rng.uniform(0.35, 0.6)
    softness = rng.uniform(0.25, 0.5)
    grain_pick, amount, tint = rng.random(), rng.uniform(0.6, 1.3), rng.normal(0, 4, 3)
    metal = rng.uniform(0.6, 1.0)
    colours = [np.asarray(colour, np.float32) + np.float32(tint) for colour in finish.colours]
    if len(colours) == 1:
        paint = np.broadcast_to(colours[0][:, None, None], (3, *deep.shape)).copy()
    else:
        reach = np.hypot(x_in / 7.5, (y_in + 1.5) / 9.5)
        inside = np.clip((deep * 1.15 - reach * 0.35 - ramp_at + 0.5) / softness - 0.5, 0, 1)
        stops = np.linspace(1, 0, len(colours))
        paint = np.stack(
            [np.interp(inside, stops[::-1], [colour[channel] for colour in reversed(colours)]) for channel in range(3)]
        ).astype(np.float32)
    if finish.kind == "solid":
        return paint
    if finish.kind == "metallic":
        glow = np.exp(-(((x_in + y_in * 0.6 - 2) / 6) ** 2)) * np.float32(0.35 * metal)
        return np.asarray(paint * (0.85 + glow), np.float32)
    halves = grain_pick < 0.6 or finish.kind == "flame"  # two halves of one plank
    book: Field = np.abs(x_in) if halves else x_in + np.float32(20)
    if finish.kind == "flame":
        wave = sample("flame" if grain_pick < 0.8 else "quilt", book, y_in + book * np.float32(0.3), shift)
        return np.asarray(paint * (1 + 0.16 * amount * wave), np.float32)
    if top in ("acoustic", "classical", "hollow"):
        name = "mahogany" if sum(finish.colours[0]) < 380 else "spruce"
        strength = 0.045
    else:
        name = ("ash", "mahogany", "spruce")[int(grain_pick * 3)]
        strength = 0.08 if name == "ash" else 0.05
    grain = sample(name, book, y_in, shift)
    return np.asarray(paint * (1 + strength * amount * grain), np.float32)
