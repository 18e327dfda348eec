"""Puts an instrument together from its parts, then paints it: body first, hardware over it, strings last."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops

from crawler.shop.draw import hardware
from crawler.shop.draw.bodies import BODIES, outline
from crawler.shop.draw.finishes import FINISHES, Finish
from crawler.shop.draw.geometry import Points, Pose, moved
from crawler.shop.draw.guards import PLASTICS, guard_for
from crawler.shop.draw.heads import head_for
from crawler.shop.draw.neck import neck_for
from crawler.shop.draw.paint import Light, Photo, blurred, coverage
from crawler.shop.draw.pen import Colour, Pen, shaded
from crawler.shop.draw.spec import Spec
from crawler.shop.draw.textures import sample

__all__ = ["Instrument"]

_METALS = (hardware.CHROME, hardware.GOLD, hardware.BLACK)
_PLASTIC_PARTS: tuple[Colour, ...] = ((24, 24, 26), (238, 236, 228), (232, 216, 176))
_BINDINGS: tuple[Colour, ...] = ((236, 226, 196), (244, 242, 236), (28, 24, 22))


class Instrument:
    """One instrument in inches, its parts chosen by `spec.seed`: finish and pose do not change them."""

    def __init__(self, spec: Spec, rng: np.random.Generator) -> None:
        self.spec = spec
        self.top = BODIES[spec.style].top
        self.finish: Finish = FINISHES[spec.finish]
        self.body = outline(spec.style, spec.scale_in, rng)
        self.neck = neck_for(spec.style, spec.strings, spec.scale_in, rng)
        self.head = head_for(spec.style, spec.strings, self.neck.nut_in, rng)
        stretch = spec.scale_in / BODIES[spec.style].scale_in
        self.guard = guard_for(spec.style, stretch, rng)
        self.metal = _METALS[int(rng.choice(3, p=(0.58, 0.18, 0.24)))]
        self.plastic = _PLASTIC_PARTS[int(rng.choice(3, p=(0.6, 0.25, 0.15)))]
        self.button: Colour = self.metal if rng.random() < 0.75 else (232, 224, 196)
        if self.head.slots:
            self.button = (236, 230, 212)
        bound = {"acoustic": 0.7, "classical": 0.75, "hollow": 0.85, "carved": 0.7, "flat": 0.08}[self.top]
        if self.neck.bass:  # four guitars in ten are bound, most of them acoustic; so are four basses in ten
            bound = 0.4
        self.binding = _BINDINGS[int(rng.choice(3, p=(0.5, 0.3, 0.2)))] if rng.random() < bound else None
        self.face_pick, self.dark_head = float(rng.random()), bool(rng.random() < 0.5)
        self.seed = int(rng.integers(2**62))

    @property
    def bounds(self) -> Points:
        """Points that must be inside the picture."""
        head = moved(self.head.extent, 0, -self.spec.scale_in)
        return np.concatenate((self.body[::6], head))

    def silhouette(self) -> list[Points]:
        """Polygons that throw the shadow."""
        return [self.body, self.neck.outline(), moved(self.head.outline, 0, -self.spec.scale_in)]

    def paint(self, photo: Photo, pose: Pose, light: Light) -> None:
        """The body with its finish and guard, at the picture's own size."""
        rng = np.random.default_rng(self.seed)
        mask = coverage([pose(self.body)], photo.size)
        photo.body(mask, pose, self.finish, light, rng, self.top, self.binding)
        if self.guard is None:
            return
        points, plastic = self.guard
        colour, cloud = PLASTICS[plastic]
        whole = coverage([pose(points)], photo.size)
        bounds = whole.getbbox()
        if bounds is None:
            return
        lies, window, x_in, y_in = photo.cropped(whole, bounds, pose)
        body = mask.crop((window[1].start, window[0].start, window[1].stop, window[0].stop))
        inch = pose.pixels_per_inch
        inside = np.clip(blurred(body, 0.3 * inch) * 4 - 2.4, 0, 1)  # a guard ends a little within the rim
        alpha = np.asarray(ImageChops.multiply(body, lies), np.float32) * np.float32(1 / 255) * inside
        photo.pixels[:, *window] *= 1 - blurred(lies, 0.18 * inch) * inside * np.float32(0.28)
        tone = 1 - 0.07 * (x_in * light.x + y_in * light.y) / 8
        if cloud:
            tone *= 1 + cloud * sample("tortoise", x_in * 1.3, y_in * 1.3, (self.seed % 512, self.seed % 509))
        photo.blend(alpha, np.clip(np.multiply.outer(np.asarray(colour, np.float32), tone), 0, 255), window)

    def draw(self, canvas: Image.Image, pose: Pose) -> None:
        """Everything but the body, on the fine canvas."""
        rng = np.random.default_rng(self.seed + 1)
        pen = Pen(canvas, pose)
        spec, neck, nut_y = self.spec, self.neck, -self.spec.scale_in
        acoustic = self.top in ("acoustic", "classical")
        end_y = float(self.body[:, 1].max())
        if acoustic:
            base = self.finish.colours[0]
            radius = 1.68 if self.top == "classical" else 1.85 if spec.style == "parlor" else 2.0
            hardware.soundhole(
                pen,
                neck,
                radius * rng.uniform(0.96, 1.04),
                None if rng.random() < 0.6 else self.body,
                base,
                self.top == "classical",
            )
        elif self.top == "hollow" and spec.style != "violin-bass":
            hardware.f_holes(pen, self.body, neck, rng.random() < 0.9)
        self.head.draw_behind(pen, nut_y, self.metal, self.button)
        neck.draw_board(pen, rng)
        self._head(pen, nut_y)
        if acoustic:
            wood = neck.board if sum(neck.board[:3]) < 250 else (60, 40, 32)
            strings_end = hardware.acoustic_bridge(
                pen, neck, wood, self.top == "classical", (240, 236, 224) if rng.random() < 0.6 else (24, 22, 22)
            )
        else:
            hardware.pickups(pen, spec.style, neck, self.metal, self.plastic, rng)
            place = hardware.bass_bridge if neck.bass else hardware.tailpiece
            strings_end = place(pen, spec.style, neck, self.metal, rng, end_y)
        neck.draw_strings(pen, self.head.posts, strings_end)
        if not acoustic:
            hardware.knobs(pen, self.body, spec.style, self.metal, self.plastic, rng, rng.random() < 0.4)
        if spec.style not in ("v", "angular", "headless"):
            foot = self.body[np.abs(self.body[:, 0]).argsort()[:12]]
            pen.disc(0, float(foot[:, 1].max()) - 0.05, 0.2, shaded(self.metal, 0.8))

    def _head(self, pen: Pen, nut_y: float) -> None:
        face: Colour = self.neck.wood
        # half of all guitars have a dark head (acoustic and carved ones), and so have half of the basses
        if self.top in ("acoustic", "classical", "hollow", "carved") or (self.neck.bass and self.dark_head):
            face = (22, 20, 20) if self.face_pick < 0.55 else shaded((84, 52, 38), 0.8 + 0.4 * self.face_pick)
        elif self.face_pick < 0.16:
            face = shaded(self.finish.colours[-1], 1.0)
        elif self.face_pick < 0.36:
            face = (24, 24, 26)
        shape = moved(self.head.outline, 0, nut_y)
        pen.polygon(moved(shape, 0.1, 0.12), (0, 0, 0, 50))
        pen.polygon(shape, shaded(face, 0.82))
        middle = shape.mean(0)
        pen.polygon((shape - middle) * (0.9, 0.95) + middle, face)
        # a maker's mark, too small to read
        top = shape[:, 1].min()
        ink = (40, 34, 30, 150) if sum(face[:3]) > 330 else (220, 212, 190, 170)
        pen.bar(float(middle[0]), top + 1.1, 0.9, 0.22, ink)
        self.head.draw_posts(pen, nut_y, self.metal)
