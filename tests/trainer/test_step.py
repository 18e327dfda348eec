"""The step's pieces: optimisers against torch's own, schedules, augmentation, executors, nets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.errors import ConfigError
from trainer.augment import augment
from trainer.config import Augment, Net, Optim
from trainer.executor import Compiled, open_executor
from trainer.nets import build_net, parameters_of
from trainer.optim import Optimiser, rate_at
from trainer.step import Normaliser, Step

T5 = Net.model_validate({"layers": [{"kernel": 5, "maps": 10, "batch_norm": True}]})
# Without batch norm: a bias before one has no gradient but rounding, which AdamW scales up to a whole step.
PLAIN = Net.model_validate({"layers": [{"kernel": 5, "maps": 10}]})


def make_step(net_config: Net, **optim: Any) -> Step:
    torch.manual_seed(0)
    net = build_net(net_config, 3, 24)
    return Step(
        net,
        Optimiser(net, Optim(**optim), 10),
        Normaliser(torch.tensor([120.0, 110, 100]), torch.tensor([60.0, 61, 62]), 8, 24, channels_last=False),
        batch=8,
        size=24,
        precision="fp32",
        how=Augment(),
        label_smoothing=0.0,
    )


def fill(step: Step, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    step.images.copy_(torch.randint(0, 256, step.images.shape, generator=generator, dtype=torch.uint8))
    step.labels.copy_(torch.randint(0, 3, step.labels.shape, generator=generator))


@pytest.mark.parametrize(
    "optim",
    [
        {"kind": "sgd", "lr": 0.05},
        {"kind": "sgd", "lr": 0.05, "momentum": 0.6, "weight_decay": 0.01},
        {"kind": "adamw", "lr": 0.003, "weight_decay": 0.05},
    ],
)
def test_optimisers_compute_what_torch_does(optim: dict[str, Any]) -> None:
    mine = make_step(PLAIN, **optim)
    theirs = build_net(PLAIN, 3, 24)
    theirs.load_state_dict(mine.net.state_dict())
    options = {key: value for key, value in optim.items() if key != "kind"}
    peer = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[optim["kind"]](theirs.parameters(), **options)
    mean, std = torch.tensor([120.0, 110, 100]).view(3, 1, 1), torch.tensor([60.0, 61, 62]).view(3, 1, 1)
    for turn in range(5):
        fill(mine, turn)
        count = 8 if turn < 4 else 5
        mine.start_epoch()
        mine.optimiser.before(turn)
        mine.train(count)
        peer.zero_grad()
        x = (mine.images[:count].permute(0, 3, 1, 2).float() - mean) / std
        loss = torch.nn.functional.cross_entropy(theirs(x), mine.labels[:count])
        loss.backward()
        peer.step()
        assert float(mine.loss_sum) / count == pytest.approx(loss.item(), rel=1e-5)
    for name, tensor in theirs.state_dict().items():
        assert torch.allclose(mine.net.state_dict()[name], tensor, atol=1e-5), name


def test_one_cycle_is_torchs() -> None:
    optim = Optim(lr=0.1, schedule="onecycle", warmup=0.3)
    parameter = torch.nn.Parameter(torch.zeros(1))
    peer = torch.optim.SGD([parameter], lr=0.1)
    cycle = torch.optim.lr_scheduler.OneCycleLR(peer, 0.1, total_steps=101, pct_start=0.3, cycle_momentum=False)
    theirs = []
    for _ in range(100):
        theirs.append(cycle.get_last_lr()[0])
        peer.step()
        cycle.step()
    mine = [rate_at(optim, step, 100) for step in range(100)]
    assert np.allclose(mine, theirs, atol=0.1 * 0.05)  # torch counts its warm-up a step differently
    assert max(mine) == pytest.approx(0.1, rel=0.01)


@given(
    st.sampled_from(["constant", "cosine", "onecycle", "triangular"]),
    st.integers(1, 400),
    st.floats(0, 0.99),
    st.data(),
)
def test_rates_stay_between_zero_and_lr(schedule: Any, steps: int, warmup: float, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, steps - 1))
    rate = rate_at(Optim(lr=0.1, schedule=schedule, warmup=warmup), step, steps)
    assert 0 < rate <= 0.1 * (1 + 1e-9)


def test_compiling_leaves_the_weights_alone() -> None:
    step = make_step(T5, momentum=0.6)
    before = {name: tensor.clone() for name, tensor in step.tensors().items()}
    fill(step, 0)
    compile_s = open_executor("eager", step).prepare([8, 5])
    assert compile_s == 0.0

    class Pretend(Compiled):
        """Compiled without the compiler, whose C++ takes half a minute: the rehearsal around it is what is tested."""

    real = torch.compile
    torch.compile = lambda function, **_: function  # type: ignore[assignment]
    try:
        assert Pretend(step).prepare([8, 5]) > 0
    finally:
        torch.compile = real
    for name, tensor in step.tensors().items():
        assert torch.equal(tensor, before[name]), name
    assert float(step.loss_sum) == 0


def test_compiling_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/no/such/compiler")
    with pytest.raises(ConfigError, match=r"needs the C\+\+ compiler /no/such/compiler; install it, set CXX, or use"):
        open_executor("compiled", make_step(PLAIN))


def test_augmentation_is_off_by_default() -> None:
    images = torch.randint(0, 256, (4, 8, 8, 3), dtype=torch.uint8)
    assert augment(images, Augment()) is images


@settings(max_examples=30)
@given(st.integers(1, 6), st.booleans(), st.integers(0, 2**31))
def test_shifted_images_are_windows_of_themselves(shift: int, flip: bool, seed: int) -> None:
    torch.manual_seed(seed)
    images = torch.randint(0, 255, (3, 12, 12, 3), dtype=torch.uint8)
    padded = torch.nn.functional.pad(images, (0, 0, shift, shift, shift, shift), value=255)
    for original, moved in zip(padded, augment(images, Augment(flip=flip, shift=shift)), strict=True):
        sources = [original, original.flip(1)] if flip else [original]
        offsets = range(2 * shift + 1)
        windows = (source[y : y + 12, x : x + 12] for source in sources for y in offsets for x in offsets)
        assert any(torch.equal(window, moved) for window in windows)


def test_normalisation_is_the_same_in_a_reused_buffer() -> None:
    mean, std = torch.tensor([120.0, 110, 100]), torch.tensor([60.0, 61, 62])
    images = torch.randint(0, 256, (5, 9, 9, 3), dtype=torch.uint8)
    expected = (images.permute(0, 3, 1, 2).float() - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    for channels_last in (False, True):
        normalise = Normaliser(mean, std, 6, 9, channels_last=channels_last)
        assert torch.allclose(normalise(images), expected, atol=1e-6)
        assert normalise(images).data_ptr() == normalise(images[:2]).data_ptr()


def test_t5_has_the_originals_shape() -> None:
    net = build_net(T5, 2, 150)
    assert parameters_of(net) == (3 * 25 * 10 + 10) + 20 + (10 * 73 * 73 * 2 + 2)
    assert net(torch.zeros(1, 3, 150, 150)).shape == (1, 2)


def test_a_net_that_eats_its_image_is_named() -> None:
    deep = Net.model_validate({"layers": [{"kernel": 5, "maps": 4}] * 4})
    with pytest.raises(ConfigError, match=r"layers\.2"):
        build_net(deep, 2, 24)
