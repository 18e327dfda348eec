"""Optimisers beyond the plain: groups, Muon, clipping; averages of weights; weights and orders for skewed sets."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.average import ema_decay
from trainer.config import Augment, Average, Net, Optim
from trainer.executor import open_executor
from trainer.muon import orthogonal
from trainer.nets import build_net
from trainer.optim import Optimiser
from trainer.sampling import balanced_order, balanced_weights
from trainer.step import Normaliser, Step

NET = Net.model_validate({"kind": "residual", "widths": [6, 8], "blocks": 1})


DROPPING = Net.model_validate({"layers": [{"kernel": 3, "maps": 8, "dropout": 0.3}], "head": {"dropout": 0.2}})


def make_step(
    optim: dict[str, Any],
    average: Average | None = None,
    augment: Augment | None = None,
    weights: Any = None,
    shape: Net = NET,
) -> Step:
    torch.manual_seed(0)
    net = build_net(shape, 3, 16)
    return Step(
        net,
        Optimiser(net, Optim(**optim), 50),
        Normaliser(torch.full((3,), 120.0), torch.full((3,), 60.0), 8, 16, channels_last=False),
        batch=8, size=16, precision="fp32", how=augment or Augment(), label_smoothing=0.0, average=average, kinds=3,
        class_weights=weights,
    )  # fmt: skip


def run(step: Step, steps: int) -> list[float]:
    generator = torch.Generator().manual_seed(1)
    step.images.copy_(torch.randint(0, 256, step.images.shape, generator=generator, dtype=torch.uint8))
    step.labels.copy_(torch.arange(8) % 3)
    losses = []
    for number in range(steps):
        step.start_epoch()
        step.before(number, np.arange(8), 1, 0)
        step.train(8)
        step.after(number + 1)
        losses.append(float(step.loss_sum) / 8)
    return losses


@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 40))
def test_muons_steps_are_orthogonal(seed: int, rows: int, columns: int) -> None:
    matrices = torch.randn(3, rows, columns, generator=torch.Generator().manual_seed(seed))
    made = orthogonal(matrices)
    values = torch.linalg.svdvals(made)
    kept = torch.linalg.svdvals(matrices)  # what is nearly 0 among the others takes more turns than five
    big = kept > 0.05 * kept.max(-1, keepdim=True).values
    assert (values[big] > 0.5).all()
    assert (values < 1.3).all()
    # The same directions: singular vectors stay.
    assert (torch.einsum("nij,nij->n", made, matrices) > 0).all()


@pytest.mark.parametrize(
    "optim",
    [
        {"kind": "muon", "lr": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
        {"kind": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": True, "norm_bias_lr": 4.0, "decay_norms": False},
        {"kind": "adamw", "lr": 0.003, "weight_decay": 0.05, "clip": 1.0, "decay_norms": False},
    ],
)
def test_every_optimiser_learns_a_batch_and_repeats(optim: dict[str, Any]) -> None:
    losses = run(make_step(optim), 25)
    assert losses[-1] < 0.7 * losses[0]
    assert run(make_step(optim), 25) == losses


def test_groups_are_torchs_parameter_groups() -> None:
    optim = {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}
    mine = make_step({**optim, "decay_norms": False, "norm_bias_lr": 8.0, "clip": 0.5})
    peer = build_net(NET, 3, 16)
    peer.load_state_dict(mine.net.state_dict())
    norm_biases = [m.bias for m in peer.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    flat = [p for p in peer.parameters() if p.ndim == 1 and not any(p is bias for bias in norm_biases)]
    theirs = torch.optim.SGD(
        [
            {"params": [p for p in peer.parameters() if p.ndim > 1]},
            {"params": flat, "weight_decay": 0.0},
            {"params": norm_biases, "weight_decay": 0.0, "lr": 0.4},
        ],
        **optim,
    )
    for number in range(4):
        run(mine, 1)
        theirs.zero_grad()
        images = (mine.images.permute(0, 3, 1, 2).float() - 120) / 60
        torch.nn.functional.cross_entropy(peer(images), mine.labels).backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters(), 0.5)
        theirs.step()
        for name, tensor in peer.state_dict().items():
            assert torch.allclose(mine.net.state_dict()[name], tensor, atol=2e-4), (number, name)


def test_muon_takes_the_inner_matrices_only() -> None:
    step = make_step({"kind": "muon", "lr": 0.02, "momentum": 0.9})
    taken = {
        tuple(tensor.shape) for name, group in step.optimiser.state.items() if "momentum" in name for tensor in group
    }
    assert taken == {(6, 6, 3, 3), (8, 6, 3, 3), (8, 8, 3, 3)}


@pytest.mark.parametrize("kind", ["ema", "lookahead"])
def test_averages_are_what_the_formula_says(kind: Any) -> None:
    how = Average(kind=kind, decay=0.6, every=2)
    step = make_step({"lr": 0.05}, how)
    plain = make_step({"lr": 0.05}, how)
    kept = {name: tensor.clone() for name, tensor in step.net.state_dict().items() if tensor.is_floating_point()}
    assert step.judged is not step.net
    for number in range(1, 7):
        step.optimiser.before(number - 1)
        plain_now = run_one(step)
        if number % 2 == 0:
            decay = 0.6 if kind == "lookahead" else ema_decay(0.6, number // 2)
            kept = {name: decay * kept[name] + (1 - decay) * plain_now[name] for name in kept}
        step.after(number)
        for name, tensor in kept.items():
            assert torch.allclose(step.judged.state_dict()[name], tensor, atol=1e-5), name
            if kind == "lookahead" and number % 2 == 0:
                assert torch.equal(step.net.state_dict()[name], step.judged.state_dict()[name])
    # A checkpoint has the averages too.
    plain.restore(step.tensors())
    for name, tensor in step.judged.state_dict().items():
        assert torch.equal(plain.judged.state_dict()[name], tensor)


def run_one(step: Step) -> dict[str, torch.Tensor]:
    step.images.random_(0, 256, generator=torch.Generator().manual_seed(2))
    step.start_epoch()
    step.train(8)
    return {name: tensor.clone() for name, tensor in step.net.state_dict().items()}


def test_class_weights_weigh_and_mixup_takes_shares() -> None:
    weights = torch.tensor([0.0, 1.0, 3.0])
    weighed, plain = make_step({"lr": 0.01}, weights=weights), make_step({"lr": 0.01})
    plain.start_epoch()
    run(weighed, 1), run(plain, 1)
    assert float(weighed.loss_sum) != float(plain.loss_sum)
    mixed = make_step({"lr": 0.01}, augment=Augment(mixup=0.4))
    losses = run(mixed, 20)
    assert losses[-1] < losses[0]


def test_balanced_weights_make_labels_count_the_same() -> None:
    labels = np.array([0] * 50 + [1] * 7 + [3] * 3)
    weights = balanced_weights(labels, 4)
    assert np.allclose(weights, [60 / 150, 60 / 21, 0, 60 / 9])  # sklearn's n_samples / (n_classes * bincount)
    assert np.allclose(weights[labels].mean(), 1)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.integers(0, 2**31), st.integers(1, 8))
def test_balanced_epochs_are_balanced_over_labels_and_samples(counts: list[int], seed: int, epochs: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    samples = np.flatnonzero(np.random.default_rng(0).random(len(labels)) < 0.9)
    if not len(samples):
        return
    shown = np.zeros(len(labels), int)
    for epoch in range(1, epochs + 1):
        order = balanced_order(labels, samples, seed, epoch)
        assert len(order) == len(samples)
        assert np.isin(order, samples).all()
        assert (order == balanced_order(labels, samples, seed, epoch)).all()  # from (seed, epoch) alone
        shown += np.bincount(order, minlength=len(labels))
        own = labels[samples]
        by_label = [shown[samples][own == label].sum() for label in np.unique(own)]
        assert max(by_label) - min(by_label) <= 1
        for label in np.unique(own):
            each = shown[samples][own == label]
            assert each.max() - each.min() <= 1


@pytest.mark.skipif("BASSLINE_COMPILE" not in os.environ, reason="Inductor's C++ takes a minute: BASSLINE_COMPILE=1")
@pytest.mark.parametrize(
    ("shape", "average", "augment"),
    [
        # all of it in the compiled step's reach: mixup's shares, weights, the average, muon
        (NET, Average(kind="ema", decay=0.9), Augment(mixup=0.4, rotation=10, hue=10, cutout=3, alternating_flip=True)),
        (DROPPING, Average(kind="lookahead", decay=0.8, every=2), Augment(flip=True, shift=2)),
    ],
)
def test_a_compiled_step_learns_what_an_eager_one_does(shape: Net, average: Average, augment: Augment) -> None:
    import torch._inductor.config as inductor

    optim = {"kind": "muon", "lr": 0.02, "momentum": 0.9, "nesterov": True, "clip": 1.0}
    eager, compiled = (make_step(optim, average, augment, torch.ones(3), shape) for _ in range(2))
    with inductor.patch(fallback_random=True):  # or dropout's numbers would be others
        executor = open_executor("compiled", compiled)
        assert executor.prepare([8]) > 0
        torch.manual_seed(1)
        expected = run(eager, 5)
        torch.manual_seed(1)
        assert run(compiled, 5) == pytest.approx(expected, rel=1e-3)
