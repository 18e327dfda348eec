"""One photograph: the ground, the light, the pose and the camera's JPEG.

Everything here is drawn from the same distributions whatever the product is: ground, pose and file size must not tell
a bass from a guitar.
"""

from __future__ import annotations

import functools
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crawler.shop.draw.extras import EXTRAS, props
from crawler.shop.draw.geometry import Points, Pose
from crawler.shop.draw.instrument import Instrument
from crawler.shop.draw.paint import SUPER, Light, Photo, blurred, coverage
from crawler.shop.draw.pen import Pen
from crawler.shop.draw.spec import Spec

__all__ = ["SIZE", "picture"]

SIZE = 150

Field = NDArray[np.float32]

_YS, _XS = (axis.astype(np.float32) / SIZE - np.float32(0.5) for axis in np.mgrid[0:SIZE, 0:SIZE])


def picture(spec: Spec) -> bytes:
    """Draw `spec` as a SIZE x SIZE JPEG; the same spec gives the same bytes."""
    scene, parts = (np.random.default_rng((spec.seed, part)) for part in (0, 1))
    light = Light(scene)
    photo = Photo(_ground(scene))
    cut_out = bool(photo.pixels.min() == 255)
    if spec.style in EXTRAS:
        thing = EXTRAS[spec.style](spec, parts)
        pose = Pose.fitted(thing.bounds, float(scene.normal(0, 1)), (1.0, 1.0), _frame(scene))
        _shadow(photo, [pose(polygon) for polygon in thing.silhouette], scene, pose)
        canvas = _fine(photo)
        thing.draw(Pen(canvas, pose.scaled(SUPER)))
        return _developed(canvas, scene, cut_out)
    instrument = Instrument(spec, parts)
    turn, upright = _turn(scene)
    stretch = (float(scene.uniform(0.93, 1.03)) * (-1 if spec.left_handed else 1), 1.0)
    company = props(instrument.bounds, scene, light) if upright and scene.random() < 0.09 else None
    bounds = instrument.bounds if company is None else np.concatenate((instrument.bounds, company.bounds))
    pose = Pose.fitted(bounds, turn, stretch, _frame(scene))
    if company is not None:
        canvas = _fine(photo)
        company.draw(Pen(canvas, pose.scaled(SUPER)))
        photo.pixels[:] = np.asarray(canvas.reduce(SUPER)).transpose(2, 0, 1)
    _shadow(photo, [pose(polygon) for polygon in instrument.silhouette()], scene, pose)
    instrument.paint(photo, pose, light)
    canvas = _fine(photo)
    instrument.draw(canvas, pose.scaled(SUPER))
    return _developed(canvas, scene, cut_out)


def _turn(rng: np.random.Generator) -> tuple[float, bool]:
    """Degrees clockwise, and whether that is upright enough for company: most shops stand their instruments up."""
    roll = rng.random()
    if roll < 0.70:
        return float(rng.normal(0, 0.9)), True
    if roll < 0.76:
        return float(rng.normal(0, 6)), True
    if roll < 0.92:
        return float(rng.normal(38, 9) * (1 if rng.random() < 0.75 else -1)), False
    return float(rng.choice((90, -90), p=(0.7, 0.3)) + rng.normal(0, 1.5)), False


def _frame(rng: np.random.Generator) -> tuple[float, float, float, float]:
    """The rectangle that the product fills, in pixels: never quite the same, rarely far off the centre."""
    margin = rng.choice((rng.uniform(2, 7), rng.uniform(5, 16), rng.uniform(-9, 0)), p=(0.6, 0.36, 0.04))
    x, y = rng.normal(0, 1.2, 2) if rng.random() < 0.8 else rng.normal(0, 4, 2)
    limit = abs(margin)
    x, y = float(np.clip(x, -limit, limit)), float(np.clip(y, -limit, limit))
    return margin + x, margin + y, SIZE - margin + x, SIZE - margin + y


def _ground(rng: np.random.Generator) -> Field:
    """White, nearly white, light grey, a vignette or a floor; now and then a coloured or dark wall."""
    roll = rng.random()
    ground = np.full((3, SIZE, SIZE), 255, np.float32)
    if roll < 0.56:
        return ground
    if roll < 0.7:
        ground -= rng.uniform(1, 14) + rng.normal(0, 0.8, (3, 1, 1)).astype(np.float32)
    elif roll < 0.8:
        ground -= rng.uniform(14, 46) + rng.normal(0, 1.5, (3, 1, 1)).astype(np.float32)
    elif roll < 0.95:
        depth, x, y = rng.uniform(14, 70), *rng.normal(0, 0.12, 2)
        away = np.clip(np.hypot(_XS - x, _YS - y) - 0.2, 0, 1) * np.float32(depth)
        ground -= away + np.float32(rng.uniform(0, 12))
        if rng.random() < 0.3:  # the floor's edge
            floor = np.clip((_YS - rng.uniform(0.2, 0.38)) * 30, 0, 1) * np.float32(rng.uniform(5, 20))
            ground -= floor
    else:
        wall = np.asarray(rng.uniform(25, 170) + rng.normal(0, 14, (3, 1, 1)), np.float32)
        ground[:] = wall * (1.15 - np.hypot(_XS, _YS) * rng.uniform(0.2, 0.9))
    return ground


def _shadow(photo: Photo, polygons: list[Points], rng: np.random.Generator, pose: Pose) -> None:
    """A soft cast shadow beside the thing, tight or wide, often none: many shops cut their pictures out."""
    if rng.random() < 0.45:
        return
    inch = pose.pixels_per_inch
    reach = rng.uniform(0.2, 2.2)
    away = rng.normal((0.5, 0.8), 0.5, 2) * reach * inch
    thrown = blurred(coverage([polygon + away for polygon in polygons], photo.size), max(reach * inch * 0.8, 0.8))
    photo.darken(thrown * np.float32(rng.uniform(0.08, 0.4)))


def _fine(photo: Photo) -> Image.Image:
    """The picture so far, SUPER times as large: what is not drawn over comes back unchanged when reduced."""
    return _image(photo.pixels).resize((SIZE * SUPER, SIZE * SUPER), Image.Resampling.NEAREST)


def _image(planes: Field) -> Image.Image:
    """(3, SIZE, SIZE) float32, clipped in place, as an image."""
    np.clip(planes, 0, 255, out=planes)
    # Pillow merges planes three times as fast as NumPy transposes them
    return Image.merge("RGB", [Image.fromarray(plane) for plane in (planes + np.float32(0.5)).astype(np.uint8)])


@functools.cache
def _sensor_noise() -> Field:
    """Unit noise, larger than a picture: each takes its own part of it, which costs less than drawing new numbers."""
    return np.random.default_rng(0).standard_normal((SIZE * 4, SIZE * 4), np.float32)


def _developed(canvas: Image.Image, rng: np.random.Generator, cut_out: bool) -> bytes:
    """Lens, light falling off, sensor noise and JPEG at a shop's quality."""
    image = canvas.reduce(SUPER)
    white = image.convert("L").point([0] * 255 + [255]) if cut_out else None
    contrast, warmth = rng.normal(1.0, 0.05), rng.normal(0, 0.012)
    slope, grain = rng.normal(0, 0.035, 2).astype(np.float32), np.float32(rng.uniform(0.2, 2.2))
    x, y = rng.integers(0, SIZE * 3, 2)
    fall = 1 + slope[0] * _XS + slope[1] * _YS
    noise = _sensor_noise()[y : y + SIZE, x : x + SIZE] * grain
    lit = np.empty((3, SIZE, SIZE), np.float32)
    lit[...] = np.asarray(image).transpose(2, 0, 1)
    lit -= 255
    lit *= np.float32(contrast)
    lit += 255
    lit *= np.array((1 + warmth, 1, 1 - warmth), np.float32)[:, None, None] * fall
    lit += noise
    image = _image(lit)
    if white is not None:  # a ground that was cut out stays white
        image.paste((255, 255, 255), mask=white)
    if rng.random() < 0.25:  # a smaller original, enlarged
        small = image.resize((100, 100), Image.Resampling.BILINEAR).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        image = Image.blend(image, small, float(rng.uniform(0.1, 0.5)))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(rng.integers(89, 96)), subsampling=2 if rng.random() < 0.8 else 0)
    return buffer.getvalue()
