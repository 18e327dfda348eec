"""Using a model: every form of an image, what cannot be read, and files that are no model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import trainer
from trainer.config import RunConfig
from trainer.errors import ModelUnreadable
from trainer.fit import fit
from trainer.predict import Model


@pytest.fixture(scope="module")
def model(split: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    out = tmp_path_factory.mktemp("run")
    net = {"net": {"layers": [{"kernel": 5, "maps": 4}]}, "data": {"size": 32}, "train": {"epochs": 1, "batch": 16}}
    fit(RunConfig.model_validate(net), split, out)
    return trainer.load(out)


def test_every_form_of_an_image_gets_one_answer(model: Model, thumbnails: dict[str, list[Path]]) -> None:
    path = thumbnails["guitar"][0]
    image = Image.open(path).convert("RGB")
    answers = model.predict([path, str(path), path.read_bytes(), image, np.asarray(image)])
    assert {answer.label for answer in answers} == {answers[0].label}
    assert set(answers[0].probabilities) == set(model.labels)
    for answer in answers:
        assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert answer.probability == pytest.approx(answers[0].probability, abs=1e-3)


def test_what_cannot_be_read_does_not_stop_the_rest(model: Model, thumbnails: dict[str, list[Path]]) -> None:
    path = thumbnails["drum"][0]
    answers = model.predict([Path("none.jpg"), path, b"no image"], batch=2)
    assert [bool(answer.error) for answer in answers] == [True, False, True]
    assert "No such file" in str(answers[0].error)
    assert answers[1].label in model.labels
    assert model.predict([]) == []


def test_a_file_that_is_no_model(tmp_path: Path, tiny: Callable[..., RunConfig]) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"not a model")
    with pytest.raises(ModelUnreadable, match="no safetensors file"):
        trainer.load(tmp_path / "x.safetensors")
    with pytest.raises(ModelUnreadable, match="no such file"):
        trainer.load(tmp_path)


def test_one_image_alone_is_a_list_of_one(model: Model, thumbnails: dict[str, list[Path]]) -> None:
    path = thumbnails["violin"][0]
    pixels = np.asarray(Image.open(path).convert("RGB"))
    alone = [model.predict(one) for one in (path, str(path), path.read_bytes(), Image.open(path), pixels)]
    assert [len(answers) for answers in alone] == [1] * 5
    assert {answers[0].label for answers in alone} == {alone[0][0].label}
    assert len(model.predict(np.stack([pixels] * 3))) == 3


def test_what_is_no_picture_is_told_and_does_not_stop_the_rest(
    model: Model, thumbnails: dict[str, list[Path]], tmp_path: Path
) -> None:
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(256_000_001)  # a hole: no disk, no memory
    answers = model.predict([np.zeros((4, 4, 3)), tmp_path / "huge.jpg", tmp_path, thumbnails["drum"][0]])  # type: ignore[list-item]
    assert [bool(answer.error) for answer in answers] == [True, True, True, False]
    assert "at most 256,000,000" in str(answers[1].error)
    assert "Is a directory" in str(answers[2].error)


def test_a_model_whose_weights_are_no_numbers_says_so(model: Model, thumbnails: dict[str, list[Path]]) -> None:
    kept = {name: tensor.clone() for name, tensor in model.net.state_dict().items()}
    for parameter in model.net.parameters():
        parameter.data.fill_(float("nan"))
    answer = model.predict(thumbnails["drum"][0])[0]
    model.net.load_state_dict(kept)
    assert "weights are damaged" in str(answer.error)
