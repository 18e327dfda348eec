"""Augmentation: each kind does what it says, on each image by its own draw, the same from the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shards.errors import ConfigError
from trainer.augment import augment, mirrored_in, mix
from trainer.config import Augment, RunConfig, resolve
from trainer.preview import columns_of, draw

KINDS = {
    "flip": True, "shift": 3, "rotation": 20, "zoom": 0.2, "brightness": 0.3, "contrast": 0.3, "saturation": 0.5,
    "hue": 30, "cutout": 4,
}  # fmt: skip


def some(count: int = 6, size: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, size, size, 3), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_varies_images_and_repeats_from_a_seed(kind: str) -> None:
    images, how = some(), Augment.model_validate({kind: KINDS[kind]})
    before = images.clone()
    torch.manual_seed(5)
    once = augment(images, how)
    torch.manual_seed(5)
    assert torch.equal(once, augment(images, how))
    assert torch.equal(images, before)
    assert once.shape == images.shape
    assert not torch.equal(once.float(), images.float())
    assert float(once.float().min()) >= 0
    assert float(once.float().max()) <= 255.01


@given(st.integers(0, 2**32), st.integers(1, 1000), st.integers(0, 2**40))
def test_alternating_flip_shows_both_ways_in_two_epochs(seed: int, epoch: int, first: int) -> None:
    samples = np.arange(first, first + 400)
    one, two = mirrored_in(epoch, samples, seed), mirrored_in(epoch + 1, samples, seed)
    assert (one != two).all()
    assert 120 < one.sum() < 280
    shuffled = np.random.default_rng(0).permutation(400)
    assert (mirrored_in(epoch, samples[shuffled], seed) == one[shuffled]).all()


def test_a_full_turn_and_no_zoom_leave_the_picture() -> None:
    smooth = torch.nn.functional.avg_pool2d(some(4, 24).permute(0, 3, 1, 2).float(), 5, 1, 2).permute(0, 2, 3, 1)
    images = smooth.to(torch.uint8)
    turned = augment(images, Augment(rotation=1e-4))
    assert torch.allclose(turned, images.float(), atol=0.05)


def test_saturation_and_hue_keep_luma_and_grey() -> None:
    luma = torch.tensor([0.299, 0.587, 0.114])
    images = (some() // 4 + 96).clone()  # far from the ends, so that nothing is cut off
    varied = augment(images, Augment(saturation=0.5, hue=40))
    assert torch.allclose(varied @ luma, images.float() @ luma, atol=0.05)
    grey = images[..., :1].expand(-1, -1, -1, 3)
    assert torch.allclose(augment(grey, Augment(saturation=0.9, hue=90)), grey.float(), atol=0.05)


def test_cutout_blanks_one_square_and_nothing_else() -> None:
    images, blank = some(50), torch.tensor([1.0, 2.0, 3.0])
    varied = augment(images, Augment(cutout=5), blank=blank)
    changed = (varied != images).any(3)
    assert (changed.sum((1, 2)) <= 25).all()
    assert (changed.sum((1, 2)) >= 4).all()
    assert (varied[changed] == blank.to(torch.uint8)).all()


def test_mixup_mixes_pixels_and_targets_alike() -> None:
    images, targets = some(40), torch.eye(40)
    mixed, shares = mix(images, targets, 0.4)
    assert torch.allclose(shares.sum(1), torch.ones(40))
    assert (shares.argmax(1) == torch.arange(40)).all()
    expected = torch.einsum("bn,nhwc->bhwc", shares, images.float())
    assert torch.allclose(mixed, expected, atol=1e-2)
    assert len(set(shares.diagonal().tolist())) > 30


def test_two_flips_are_refused() -> None:
    with pytest.raises(ConfigError, match="set one of them"):
        resolve({"net": {"layers": [{"kernel": 3, "maps": 2}]}, "augment": {"flip": True, "alternating_flip": True}})


def test_the_sheet_shows_every_kind_alone_and_all_together(split: Path, tiny: object, tmp_path: Path) -> None:
    assert callable(tiny)
    config: RunConfig = tiny(
        *(f"augment.{key}={str(value).lower()}" for key, value in KINDS.items()), "augment.mixup=0.4"
    )
    titles = draw(config, split, tmp_path / "a.png")
    assert titles == [title for title, _ in columns_of(config.augment)]
    assert [titles[0], *titles[-3:]] == ["original", *["all together"] * 3]
    assert len(titles) == 1 + len(KINDS) + 1 + 3
    with Image.open(tmp_path / "a.png") as page:
        assert page.size[0] > len(titles) * 88
    draw(config, split, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert draw(tiny(), split, tmp_path / "c.png") == ["original"]
