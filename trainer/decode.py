"""Encoded images in, uint8 squares out: one interface, several decoders, the same pixels.

Each decoder reads plain JPEGs (grey or YCbCr, upright) its own fast way. All the rest (PNG, WebP, palette, alpha, CMYK,
Exif orientation) and whatever a fast decoder refuses goes to Pillow, so what is bad is one question with one answer:
bad is what Pillow cannot read. Resizing is antialiased and triangular everywhere.

The tolerance, against Pillow's own decode and resize (tests/trainer/test_decode.py): 3 levels inside, 0.5 on the mean.
On the image's rim DALI differs by up to 64 levels: it repeats the edge, or reads on beyond a crop's box, where Pillow
and torch renormalise the filter.
"""

from __future__ import annotations

import io
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from shards.errors import ConfigError
from trainer.geometry import WHITE, Plan, plan
from trainer.jpeg import JpegHeader, read_header

__all__ = [
    "Decoder",
    "PillowDecoder",
    "SimplejpegDecoder",
    "ThreadedDecoder",
    "TorchvisionDecoder",
    "open_decoder",
    "read_rgb",
]

Bytes = memoryview | bytes
Pixels = np.ndarray[Any, np.dtype[np.uint8]]

# Larger than any shop photo and small enough that a bomb costs 200 MB, not the machine.
MAX_PIXELS = 64_000_000

_EVEN = 4
"""Chunks a thread of a batch that is waited for: its end is as late as the last of them."""


class Decoder(ABC):
    """Decodes batches into squares of `size` pixels; safe to use from one thread at a time.

    Attributes:
        name: as in a run file.
        device: where the pixels come to be, so that buffers may be made there.
    """

    name: str
    device = "cpu"

    def __init__(self, size: int, fit: str, threads: int) -> None:
        self.size, self.fit, self.threads = size, fit, threads
        self._behind: ThreadPoolExecutor | None = None

    @abstractmethod
    def decode(self, images: Sequence[Bytes], out: torch.Tensor) -> list[int]:
        """Decodes `images` into `out`, uint8 (len(images), size, size, 3), on any device.

        Returns:
            The positions of images that cannot be read, in order; their rows hold nothing to be used.
        """

    def begin(self, images: Sequence[Bytes], out: torch.Tensor) -> Callable[[], list[int]]:
        """Starts `decode` in the background; the function given back waits for it and gives or raises what it does.

        More may be begun before the first is waited for. `out` belongs to the decoder until then.
        """
        if self._behind is None:
            self._behind = ThreadPoolExecutor(1, thread_name_prefix="decode-ahead")
        return self._behind.submit(self.decode, images, out).result

    def close(self) -> None:
        """Frees threads and memory."""
        if self._behind is not None:
            self._behind.shutdown()


class ThreadedDecoder(Decoder):
    """Decodes on CPU threads, each image by `pixels_of`; those release the interpreter's lock while they work."""

    def __init__(self, size: int, fit: str, threads: int) -> None:
        super().__init__(size, fit, threads)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"decode-{self.name}") if threads > 1 else None

    def pixels_of(self, data: Bytes, header: JpegHeader, row: Pixels | None) -> Pixels:
        """A plain JPEG's pixels (H, W, 3); may decode straight into `row`, which is given when the shapes agree."""
        return read_rgb(data)

    def decode(self, images: Sequence[Bytes], out: torch.Tensor) -> list[int]:
        host = out if out.device.type == "cpu" else torch.empty(out.shape, dtype=torch.uint8, pin_memory=True)
        rows = host.numpy()
        bad = (
            self.decode_here(images, rows)
            if self._pool is None
            else self._spread(self._pool, images, rows, _EVEN * self.threads)()
        )
        if host is not out:
            out.copy_(host)
        return bad

    def decode_here(self, images: Sequence[Bytes], rows: Pixels) -> list[int]:
        """As `decode`, in the calling thread, into uint8 (len(images), size, size, 3) on the host."""
        return self._some(images, rows, 0, len(images))

    def begin(self, images: Sequence[Bytes], out: torch.Tensor) -> Callable[[], list[int]]:
        if self._pool is None or out.device.type != "cpu":
            return super().begin(images, out)
        # One chunk a thread: the next batch's wait behind them in the pool's queue, so no thread stands idle at a
        # batch's end, and every chunk more wakes the taker once more, which stops a thread that decodes.
        return self._spread(self._pool, images, out.numpy(), self.threads)

    def _spread(
        self, pool: ThreadPoolExecutor, images: Sequence[Bytes], rows: Pixels, count: int
    ) -> Callable[[], list[int]]:
        step = max(1, -(-len(images) // count))
        chunks = [
            pool.submit(self._some, images, rows, start, min(start + step, len(images)))
            for start in range(0, len(images), step)
        ]
        return lambda: [position for chunk in chunks for position in chunk.result()]

    def _some(self, images: Sequence[Bytes], rows: Pixels, start: int, end: int) -> list[int]:
        return [position for position in range(start, end) if not self._decode_one(images[position], rows[position])]

    def _decode_one(self, data: Bytes, row: Pixels) -> bool:
        header = read_header(data)
        if header is not None and header.plain and header.width * header.height <= MAX_PIXELS:
            same = (header.height, header.width) == row.shape[:2]
            try:
                pixels = self.pixels_of(data, header, row if same else None)
            except (ValueError, RuntimeError, OSError, SyntaxError):
                pixels = None  # Pillow has the last word
            if pixels is not None:
                if pixels is not row:
                    put(pixels, row, self.size, self.fit)
                return True
        try:
            put(read_rgb(data), row, self.size, self.fit)
        except UNREADABLE:
            return False
        return True

    def close(self) -> None:
        super().close()
        if self._pool is not None:
            self._pool.shutdown()


class PillowDecoder(ThreadedDecoder):
    """Reads everything by Pillow: the reference."""

    name = "pillow"


class SimplejpegDecoder(ThreadedDecoder):
    """libjpeg-turbo through simplejpeg, into the batch itself where no resize is needed."""

    name = "simplejpeg"

    def __init__(self, size: int, fit: str, threads: int) -> None:
        import simplejpeg

        super().__init__(size, fit, threads)
        self._decode: Callable[..., Pixels] = simplejpeg.decode_jpeg

    def pixels_of(self, data: Bytes, header: JpegHeader, row: Pixels | None) -> Pixels:
        if row is None:
            return self._decode(data)
        self._decode(data, buffer=row)
        return row


class TorchvisionDecoder(ThreadedDecoder):
    """torchvision's libjpeg-turbo on the CPU; nvJPEG where `out` lies on a GPU.

    torchvision 0.29 calls its image reading deprecated in favour of torchcodec, and says so at every call.
    """

    name = "torchvision"

    def __init__(self, size: int, fit: str, threads: int) -> None:
        from torchvision.io import ImageReadMode, decode_jpeg

        warnings.filterwarnings("ignore", "The image decoding and encoding capabilities of TorchVision")
        super().__init__(size, fit, threads)
        self._decode: Callable[..., Any] = decode_jpeg
        self._rgb = ImageReadMode.RGB

    def pixels_of(self, data: Bytes, header: JpegHeader, row: Pixels | None) -> Pixels:
        encoded = torch.from_numpy(np.frombuffer(data, np.uint8).copy())  # torch wants bytes it may write to
        pixels: Pixels = self._decode(encoded, mode=self._rgb).permute(1, 2, 0).numpy()
        return pixels

    def decode(self, images: Sequence[Bytes], out: torch.Tensor) -> list[int]:
        if out.device.type == "cpu":
            return super().decode(images, out)
        headers = [read_header(data) for data in images]
        fast = [i for i, h in enumerate(headers) if h is not None and h.plain and h.width * h.height <= MAX_PIXELS]
        try:
            encoded = [torch.from_numpy(np.frombuffer(images[i], np.uint8).copy()) for i in fast]
            decoded = self._decode(encoded, mode=self._rgb, device=out.device) if fast else []
        except RuntimeError:  # one bad image fails the call: this batch is read on the CPU, image by image
            return super().decode(images, out)
        for i, pixels in zip(fast, decoded, strict=True):
            _put_tensor(pixels, out[i], plan(pixels.shape[1], pixels.shape[2], self.size, self.fit))
        rest = sorted(set(range(len(images))) - set(fast))
        if not rest:
            return []
        slow = torch.empty((len(rest), *out.shape[1:]), dtype=torch.uint8)
        bad = super().decode([images[i] for i in rest], slow)
        out[torch.tensor(rest, device=out.device)] = slow.to(out.device)
        return [rest[i] for i in bad]


# What Pillow raises over bytes that are no image or a damaged one, and torch over a size that cannot be.
UNREADABLE: tuple[type[Exception], ...] = (
    OSError, ValueError, SyntaxError, EOFError, RuntimeError, LookupError, TypeError, ArithmeticError, AttributeError,
    MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip


def read_rgb(data: Bytes) -> Pixels:
    """Any image as uint8 RGB (H, W, 3), first frame, turned upright, alpha composed over white.

    Raises:
        OSError and others (UNREADABLE): the bytes are not an image, a damaged one, or over 64 million pixels.
    """
    with Image.open(io.BytesIO(data)) as image:
        if image.width * image.height > MAX_PIXELS:
            raise OSError(f"{image.width}x{image.height} pixels")
        turned = ImageOps.exif_transpose(image)
    return np.asarray(_flatten(turned))


def _flatten(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow clips 16 bits at 255 instead of scaling them
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        alpha = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (WHITE, WHITE, WHITE, 255)), alpha).convert("RGB")
    return image.convert("RGB")


def put(pixels: Pixels, row: Pixels, size: int, fit: str) -> None:
    """Resizes `pixels` (H, W, 3) by the fit and writes them into `row` (size, size, 3), white around them."""
    layout = plan(pixels.shape[0], pixels.shape[1], size, fit)
    if not pixels.flags.writeable:
        pixels = pixels.copy()  # torch warns of memory it must not write to; only Pillow's arrays are such
    _put_tensor(torch.from_numpy(pixels).permute(2, 0, 1), torch.from_numpy(row), layout)


def _put_tensor(pixels: torch.Tensor, row: torch.Tensor, layout: Plan) -> None:
    """As `put`, for pixels (3, H, W) and a row (size, size, 3) on one device."""
    top, left, bottom, right = layout.box
    part = pixels[:, top:bottom, left:right]
    if part.shape[1:] != (layout.height, layout.width):
        if part.is_cuda:  # there the antialiased kernel has no uint8
            part = part.float()
        part = torch.nn.functional.interpolate(
            part[None], (layout.height, layout.width), mode="bilinear", antialias=True, align_corners=False
        )[0]
        if part.is_cuda:
            part = part.round().clamp(0, 255).to(torch.uint8)
    if (layout.height, layout.width) != tuple(row.shape[:2]):
        row.fill_(WHITE)
    row[layout.y : layout.y + layout.height, layout.x : layout.x + layout.width] = part.permute(1, 2, 0)


def open_decoder(name: str, size: int, fit: str, threads: int, device: str) -> Decoder:
    """Opens the decoder called `name` in a run file for a training device ("cpu" or "cuda").

    `auto` is DALI on the GPU where there is one and simplejpeg's threads elsewhere (docs/decisions/trainer-decoders.md
    has the measurements; on a CPU they decode faster than DALI and need neither its import nor its 500 MB).

    Raises:
        ConfigError: the decoder's library is not installed.
    """
    threads = threads or len(os.sched_getaffinity(0))
    if name == "auto":
        name = "dali" if device == "cuda" and _has_dali() else "simplejpeg"
    try:
        if name == "dali":
            from trainer.decode_dali import DaliDecoder

            return DaliDecoder(size, fit, threads, device)
        return {kind.name: kind for kind in (PillowDecoder, SimplejpegDecoder, TorchvisionDecoder)}[name](
            size, fit, threads
        )
    except ImportError as error:
        raise ConfigError("data.decoder", name, f'is not installed here ({error}); another one or "auto"') from None


def _has_dali() -> bool:
    from importlib.util import find_spec

    try:
        return find_spec("nvidia.dali") is not None
    except ModuleNotFoundError:
        return False
