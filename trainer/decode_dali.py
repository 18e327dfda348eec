"""DALI as a decoder: bytes go in by external_source, so that our own reader keeps the order and the count.

A bad JPEG is a "Critical error in pipeline" that loses its whole batch and the pipeline with it (DALI #3913). The
batch is then read once more on CPU threads, where only the bad image fails, and the pipeline is built anew for the
next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import nvidia.dali.types as types
import torch
from nvidia.dali import fn, pipeline_def
from torch.utils.dlpack import from_dlpack

from trainer.decode import MAX_PIXELS, Bytes, Decoder, SimplejpegDecoder
from trainer.geometry import WHITE, Plan, plan
from trainer.jpeg import read_header

__all__ = ["DaliDecoder"]


class DaliDecoder(Decoder):
    """DALI on the CPU, or on the GPU ("mixed": nvJPEG fed from the host) where the training device is one."""

    name = "dali"

    def __init__(self, size: int, fit: str, threads: int, device: str) -> None:
        super().__init__(size, fit, threads)
        self._gpu = device == "cuda"
        self.device = device
        self._rest = SimplejpegDecoder(size, fit, threads)
        self._pipes: dict[bool, tuple[Any, int]] = {}  # for squares as they are, or not: a pipeline and its capacity

    def decode(self, images: Sequence[Bytes], out: torch.Tensor) -> list[int]:
        headers = [read_header(data) for data in images]
        fast = [i for i, h in enumerate(headers) if h is not None and h.plain and h.width * h.height <= MAX_PIXELS]
        plans = [plan(h.height, h.width, self.size, self.fit) for h in (headers[i] for i in fast) if h is not None]
        for whole in (True, False):
            some = [at for at, layout in enumerate(plans) if layout.keeps(self.size) is whole]
            if not some:
                continue
            inputs: dict[str, Any] = {"jpeg": [np.frombuffer(images[fast[at]], np.uint8) for at in some]}
            if not whole:
                inputs |= _laid_out([plans[at] for at in some])
            try:
                squares = self._run(whole, inputs, len(some))
            except (RuntimeError, IndexError):  # the pipeline is no longer valid after an error
                self._pipes.clear()
                return self._rest.decode(images, out)
            if len(some) == len(images):
                out.copy_(squares)
                return []
            out[torch.tensor([fast[at] for at in some], device=out.device)] = squares.to(out.device)
        rest = sorted(set(range(len(images))) - set(fast))
        slow = torch.empty((len(rest), *out.shape[1:]), dtype=torch.uint8)
        bad = self._rest.decode([images[i] for i in rest], slow)
        out[torch.tensor(rest, device=out.device, dtype=torch.int64)] = slow.to(out.device)
        return [rest[i] for i in bad]

    def _run(self, whole: bool, inputs: dict[str, Any], count: int) -> torch.Tensor:
        pipe, capacity = self._pipes.get(whole, (None, 0))
        if pipe is None or count > capacity:
            pipe = _squares(
                self._gpu,
                self.size,
                whole,
                batch_size=count,
                num_threads=self.threads,
                device_id=torch.cuda.current_device() if self._gpu else None,
                prefetch_queue_depth=1,  # the caller has one batch in hand; more would only hold memory
            )
            pipe.build()
            self._pipes[whole] = (pipe, count)
        # On the GPU the outputs are bound to torch's stream: the copy out is ordered after the decode with no host
        # wait.
        stream = torch.cuda.current_stream() if self._gpu else None
        (squares,) = pipe.run(stream, **inputs)
        return from_dlpack(squares.as_tensor())

    def close(self) -> None:
        super().close()
        self._pipes.clear()
        self._rest.close()


def _laid_out(plans: Sequence[Plan]) -> dict[str, Any]:
    boxes = np.array([layout.box for layout in plans], np.float32)
    return {
        "start": np.ascontiguousarray(boxes[:, :2]),
        "end": np.ascontiguousarray(boxes[:, 2:]),
        "extent": np.array([(layout.height, layout.width) for layout in plans], np.float32),
        "anchor": np.array([(-layout.y, -layout.x) for layout in plans], np.int32),
    }


@pipeline_def  # type: ignore[untyped-decorator]
def _squares(gpu: bool, size: int, whole: bool) -> Any:
    """JPEG bytes to uint8 (size, size, 3): the source box (start, end), resized to `extent`, seen from `anchor`.

    `whole` ones are such squares already: DALI's resize would filter them all the same, for several times the cost of
    decoding them.
    """
    jpeg = fn.external_source(name="jpeg", dtype=types.UINT8, ndim=1)
    image = fn.decoders.image(
        jpeg,
        device="mixed" if gpu else "cpu",
        output_type=types.RGB,
        adjust_orientation=False,  # what Exif turns never comes here
        jpeg_fancy_upsampling=True,  # as libjpeg does: the same pixels on both devices (DALI #3610)
    )
    if whole:
        return image
    start, end, extent = (
        fn.external_source(name=name, dtype=types.FLOAT, ndim=1) for name in ("start", "end", "extent")
    )
    anchor = fn.external_source(name="anchor", dtype=types.INT32, ndim=1)
    image = fn.resize(
        image, size=extent, roi_start=start, roi_end=end, interp_type=types.INTERP_TRIANGULAR, antialias=True
    )
    return fn.slice(
        image,
        start=anchor,
        shape=[size, size],
        axes=(0, 1),
        out_of_bounds_policy="pad",
        fill_values=[WHITE, WHITE, WHITE],
    )
