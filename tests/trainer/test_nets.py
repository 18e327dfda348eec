"""Nets a run file can describe: heads, the residual net, torchvision's models, weights from a file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.errors import ConfigError
from trainer.config import Net, load_run, resolve, to_toml
from trainer.nets import build_net, parameters_of
from trainer.pretrained import start_from
from trainer.residual import WhitenStem

BATTERY = Path(__file__).resolve().parents[2] / "battery"
CONV = {"layers": [{"kernel": 3, "maps": 4}]}


def net_of(**tables: Any) -> Net:
    return Net.model_validate(tables)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=3),
    st.integers(0, 2),
    st.sampled_from(["relu", "silu", "gelu"]),
    st.sampled_from(["kaiming", "dirac"]),
    st.booleans(),
    st.sampled_from(["auto", "none", "average", "max"]),
    st.lists(st.integers(1, 9), max_size=2),
    st.integers(16, 33),
    st.integers(2, 7),
)
def test_a_residual_net_of_any_shape_trains(
    widths: list[int], blocks: int, activation: str, init: str, whiten: bool, pool: str, hidden: list[int], size: int,
    labels: int,
) -> None:  # fmt: skip
    head = {"pool": pool, "hidden": hidden, "dropout": 0.1}
    net = build_net(
        net_of(
            kind="residual", widths=widths, blocks=blocks, activation=activation, init=init, whiten=whiten, head=head
        ),
        labels,
        size,
    )
    logits = net(torch.randn(3, 3, size, size))
    assert logits.shape == (3, labels)
    logits.sum().backward()
    missing = [name for name, weight in net.named_parameters() if weight.requires_grad == (weight.grad is None)]
    assert not missing


def test_too_many_stages_are_named() -> None:
    with pytest.raises(ConfigError, match=r"widths\.4.*16 pixels"):
        build_net(net_of(kind="residual", widths=[4] * 6), 2, 16)


def test_dirac_starts_a_convolution_as_the_identity() -> None:
    net = build_net(net_of(kind="residual", widths=[6, 6], init="dirac", blocks=1), 2, 16)
    weight = net.get_submodule("stage1.conv").get_parameter("weight")
    images = torch.randn(2, 6, 8, 8)
    assert torch.allclose(torch.nn.functional.conv2d(images, weight, padding=1), images)


def test_whitened_patches_are_uncorrelated() -> None:
    torch.manual_seed(0)
    images = torch.randn(20, 3, 12, 12).cumsum(2).cumsum(3) / 10  # neighbours that are alike, as in photographs
    stem = WhitenStem(torch.nn.Identity())
    stem.fit_to(images, eps=0.0)
    maps = torch.nn.functional.conv2d(images, stem.conv.weight).permute(1, 0, 2, 3).flatten(1)
    assert torch.allclose(maps[:12] @ maps[:12].T / maps.shape[1], torch.eye(12), atol=1e-2)
    assert torch.equal(stem.conv.weight[12:], -stem.conv.weight[:12])
    assert not stem.conv.weight.requires_grad


def test_heads() -> None:
    flat = build_net(net_of(**CONV), 5, 16)
    assert parameters_of(flat) == (27 * 4 + 4) + (4 * 49 * 5 + 5)
    pooled = build_net(net_of(**CONV, head={"pool": "average"}), 5, 16)
    assert parameters_of(pooled) == (27 * 4 + 4) + (4 * 5 + 5)
    deep = build_net(net_of(**CONV, head={"pool": "max", "hidden": [8, 6], "scale": 0.5}), 5, 16)
    assert parameters_of(deep) == (27 * 4 + 4) + (4 * 8 + 8) + (8 * 6 + 6) + (6 * 5 + 5)
    assert deep(torch.zeros(2, 3, 16, 16)).shape == (2, 5)


def test_torchvisions_models_by_name() -> None:
    wide = build_net(net_of(kind="torchvision", name="squeezenet1_1"), 7, 32)
    assert wide(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    small = build_net(net_of(kind="torchvision", name="resnet18", small_stem=True), 7, 32)
    assert small.get_submodule("layer1")(small.get_submodule("conv1")(torch.zeros(1, 3, 32, 32))).shape[2:] == (32, 32)


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        ({"name": "resnet81"}, "did you mean 'resnet18'"),
        ({"name": "squeezenet1_1", "small_stem": True}, "belongs to ResNets"),
        ({"name": "alexnet"}, "does not take images of 24 pixels"),
        ({"name": "mask_rcnn"}, "no classification model"),
    ],
)
def test_what_torchvision_cannot_build_is_said(tables: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        build_net(net_of(kind="torchvision", **tables), 3, 24)


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        ({"kind": "residual", "layers": [{"kernel": 3, "maps": 4}]}, 'layers belongs to kind = "conv"'),
        ({**CONV, "widths": [4]}, 'widths belongs to kind = "residual"'),
        ({"kind": "conv"}, "at least one"),
        ({"kind": "torchvision"}, "resnet18"),
        ({"kind": "residual", "width": [4]}, "did you mean 'widths'"),
        ({**CONV, "head": {"hiden": [4]}}, "net.head.hiden: unknown key; did you mean 'hidden'"),
    ],
)
def test_a_key_of_another_kind_is_refused(tables: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve({"net": tables})
    assert told in str(caught.value)


def test_a_resolved_file_holds_its_own_kinds_keys_only() -> None:
    for tables in (
        {**CONV, "head": {"hidden": [3]}},
        {"kind": "residual"},
        {"kind": "torchvision", "name": "resnet18"},
    ):
        run = resolve({"net": tables})
        again = resolve(tomllib.loads(to_toml(run)))
        assert again == run
    assert "widths" not in to_toml(resolve({"net": CONV}))


def test_the_shipped_residual_recipe_is_one() -> None:
    run = load_run(BATTERY / "residual.toml")
    assert run.net.kind == "residual"
    assert 64 <= run.data.size <= 128
    net = build_net(run.net, 10, run.data.size)
    assert net.eval()(torch.zeros(1, 3, run.data.size, run.data.size)).shape == (1, 10)


def test_weights_from_a_file(tmp_path: Path) -> None:
    config = net_of(**CONV)
    torch.manual_seed(1)
    other, net = build_net(config, 4, 16), build_net(config, 2, 16)
    torch.save({"state_dict": other.state_dict()}, tmp_path / "w.pth")
    left = start_from(net, tmp_path / "w.pth")
    assert left == ["head.bias", "head.weight"]  # for other labels: stays as drawn
    assert torch.equal(net.state_dict()["layer1.conv.weight"], other.state_dict()["layer1.conv.weight"])
    (tmp_path / "x.pth").write_bytes(b"no weights")
    torch.save({"nothing": torch.zeros(3)}, tmp_path / "y.pth")
    for name, told in (("none.pth", "nothing is fetched"), ("x.pth", "holds no weights"), ("y.pth", "no tensor of it")):
        with pytest.raises(ConfigError, match=told):
            start_from(net, tmp_path / name)
