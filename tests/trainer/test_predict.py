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
