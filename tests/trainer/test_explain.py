"""Maps of nets whose answer is known, and the check that tells such a map from an edge detector."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import nn

from trainer.checkpoint import ModelCard
from trainer.config import Net
from trainer.explain import Explainer
from trainer.nets import build_net
from trainer.predict import Model
from trainer.sanity import judge, spearman, ssim
from trainer.survey import Subjects, fresh_net, survey

pytest.importorskip("captum")
SIZE = 16


def model_of(net: dict[str, object], labels: tuple[str, ...] = ("red", "green"), flip: bool = False) -> Model:
    made = Net.model_validate(net)
    card = ModelCard(labels, SIZE, "pad", (128.0,) * 3, (64.0,) * 3, made, flip, "planted", "c", "d", 1)
    torch.manual_seed(3)
    return Model(card, build_net(made, len(labels), SIZE).eval(), torch.device("cpu"))


def red_and_green(head: str = "average", flip: bool = False) -> Model:
    """Says how much redder than white's share, or greener, the image is: two maps, each of one colour's absence."""
    model = model_of({"layers": [{"kernel": 1, "maps": 2, "pool": 1}], "head": {"pool": head}}, flip=flip)
    conv, linear = model.net.get_submodule("layer1.conv"), model.net.get_submodule("head")
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(linear, nn.Linear)
    with torch.no_grad():
        # map 0 is 4 where the pixel is red (255, 0, 0) and 0 on white, black and green; map 1 is the same of green
        conv.weight.copy_(torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]])[..., None, None])
        conv.bias.zero_()
        each = linear.in_features // 2
        linear.weight.copy_(torch.eye(2).repeat_interleave(each, 1))
        linear.bias.zero_()
    return model


def picture(*patches: tuple[int, int, tuple[int, int, int]]) -> torch.Tensor:
    image = torch.full((1, SIZE, SIZE, 3), 255, dtype=torch.uint8)
    for y, x, colour in patches:
        image[0, y : y + 4, x : x + 4] = torch.tensor(colour, dtype=torch.uint8)
    return image


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("head", "method"), [("average", "gradcam"), ("none", "gradcam"), ("none", "hirescam")])
def test_a_cam_of_a_net_whose_answer_is_known(head: str, method: str, flip: bool) -> None:
    explainer = Explainer(red_and_green(head, flip), occlude=False)
    assert explainer.layer == "layer1"
    image = picture((2, 10, (255, 0, 0)), (9, 3, (0, 255, 0)))
    for target, (y, x) in ((0, (2, 10)), (1, (9, 3))):
        found = explainer.maps(method, image, [target]).values[0]
        expected = np.zeros((SIZE, SIZE), bool)
        expected[y : y + 4, x : x + 4] = True
        assert np.array_equal(found > 1e-6, expected)


def test_integrated_gradients_sum_to_the_change_of_the_answer() -> None:
    for net in ({"layers": [{"kernel": 5, "maps": 4, "batch_norm": True}]}, {"kind": "residual", "widths": [8]}):
        model = model_of(net, flip=True)
        explainer = Explainer(model, steps=64, occlude=False)
        images = torch.randint(0, 256, (3, SIZE, SIZE, 3), dtype=torch.uint8)
        made = explainer.maps("ig", images, [0, 1, 0])
        assert made.gap is not None
        with torch.no_grad():
            ends = []
            for planes in (explainer.planes(images), explainer.blank.expand(3, 3, SIZE, SIZE)):
                logits = (model.net(planes) + model.net(planes.flip(3))) / 2
                ends.append((logits - logits.mean(1, keepdim=True))[torch.arange(3), torch.tensor([0, 1, 0])])
        wanted = (ends[0] - ends[1]).numpy()
        np.testing.assert_allclose(made.values.sum((1, 2)), wanted, atol=0.02 * np.abs(wanted).max() + 1e-3)
        assert made.gap == pytest.approx(np.abs(made.values.sum((1, 2)) - wanted) / np.abs(wanted), abs=1e-3)


def test_occlusion_finds_the_planted_patch_and_the_one_that_speaks_against_it() -> None:
    explainer = Explainer(red_and_green(), occlude=True)
    assert "occlusion" in explainer.methods
    found = explainer.maps("occlusion", picture((2, 10, (255, 0, 0)), (9, 3, (0, 255, 0))), [0]).values[0]
    assert found[2:6, 10:14].min() > 0
    assert found[9:13, 3:7].max() < 0
    assert np.abs(found[:1, :6]).max() == 0


def test_an_edge_detector_means_nothing_and_a_map_of_the_weights_does() -> None:
    model = model_of({"layers": [{"kernel": 5, "maps": 8}]})
    explainer = Explainer(model, occlude=False, steps=8)
    images = torch.randint(0, 256, (4, SIZE, SIZE, 3), dtype=torch.uint8)
    grey = images.float().mean(3)

    def edges(_: nn.Module) -> np.ndarray:
        return (grey - grey.roll(1, 2)).abs().numpy()

    def fresh(seed: int) -> nn.Module:
        return fresh_net(model, seed)

    ignores = judge("edges", edges, model.net, fresh)
    assert ignores.verdict == "image"
    assert ignores.correlation == pytest.approx(1)
    assert "Means nothing" in ignores.said
    depends = judge("ig", lambda net: explainer.maps("ig", images, [0, 1, 0, 1], net).values, model.net, fresh)
    assert depends.verdict == "learned"
    assert [step.name for step in depends.steps] == ["head", "layer1"]
    blank = judge("blank", lambda _: np.zeros((4, SIZE, SIZE), np.float32), model.net, fresh)
    assert blank.verdict == "empty"


def test_rank_correlation_and_structure_against_their_definitions() -> None:
    stats = pytest.importorskip("scipy.stats")
    drawn = np.random.default_rng(0)
    first, second = drawn.integers(0, 9, 200).astype(np.float32), drawn.integers(0, 9, 200).astype(np.float32)
    assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
    assert spearman(first, np.ones(200, np.float32)) == 0
    square = first.reshape(10, 20)
    assert ssim(square, square) == pytest.approx(1)
    assert ssim(square, -3 * square) == pytest.approx(1)
    assert ssim(square, second.reshape(10, 20)) < 0.5


@pytest.mark.parametrize(
    ("net", "layer", "without"),
    [
        ({"layers": [{"kernel": 3, "maps": 4}, {"kernel": 3, "maps": 6}]}, "layer1", ()),
        ({"kind": "residual", "widths": [8, 8, 8]}, "stage2", ("hirescam",)),
        ({"kind": "torchvision", "name": "shufflenet_v2_x0_5"}, None, ("hirescam",)),
    ],
)
def test_every_kind_of_net(net: dict[str, object], layer: str | None, without: tuple[str, ...]) -> None:
    model = model_of(net)
    explainer = Explainer(model, steps=2, images=1)
    assert layer is None or explainer.layer == layer
    assert explainer.places >= 4 or net["kind"] == "torchvision"
    assert not set(without) & set(explainer.methods)
    image = torch.randint(0, 256, (2, SIZE, SIZE, 3), dtype=torch.uint8)
    before = model.probabilities(image)
    for method in explainer.methods:
        values = explainer.maps(method, image[:1], [0]).values
        assert values.shape == (1, SIZE, SIZE)
        assert np.isfinite(values).all()
    filters = explainer.filters(image)
    assert filters.responses.shape[:2] == (2, len(filters.weights))
    assert torch.equal(model.probabilities(image), before), "explaining leaves the model as it was"


def test_a_survey_names_a_net_that_says_one_thing() -> None:
    model = red_and_green()
    squares = torch.cat([picture((2, 2, (255, 0, 0)))] * 3 + [picture((3, 3, (250, 0, 0)))] * 3)
    told = Subjects(tuple("abcdef"), squares, np.array([0, 0, 0, 1, 1, 1]), model.probabilities(squares).numpy())
    found = survey(Explainer(model, occlude=False, steps=2), told, images=3, draws=1)
    assert found.single_class == "red"
    assert [group.title.split(":")[0] for group in found.groups] == [
        "Where it looks when it errs", "The most certain", "The least certain",
    ]  # fmt: skip
    wrong = found.groups[0].images[0]
    assert told.names[wrong.number] in "def"
    assert wrong.for_truth is not None
    assert wrong.for_truth.max() == 0, "nothing in a red patch speaks for green"
    assert [each.label for each in found.labels] == ["red", "green"]
    assert {each.method for each in found.sanity} == {"gradcam", "ig"}


def test_a_layer_that_is_not_there_and_one_without_maps() -> None:
    from shards.errors import ConfigError

    for layer, said in (
        ("layer9", "no such module; among its modules are layer1, pool, flat, head"),
        ("head", "gives no maps"),
    ):
        with pytest.raises(ConfigError, match=re.escape(said)):
            Explainer(red_and_green(), layer=layer)


def test_without_captum_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from shards.errors import ConfigError

    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ConfigError, match=r"pip install 'bassline\[explain\]'"):
        Explainer(red_and_green())
