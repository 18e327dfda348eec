"""The preprocessing inside an exported model, and what cannot be exported; tests/bassline asks the files themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from trainer.checkpoint import ModelCard
from trainer.config import Net
from trainer.decode import put
from trainer.errors import NotExportable
from trainer.export import Deployed, export_program
from trainer.nets import build_net
from trainer.predict import Model

SIZE = 24
SHAPES = [(2, 24, 24), (1, 24, 24), (2, 61, 40), (1, 7, 90), (1, 1, 1), (2, 23, 25)]


def model_of(fit: str = "pad") -> Model:
    net = Net.model_validate({"layers": [{"kernel": 5, "maps": 4}]})
    card = ModelCard(("bass", "guitar"), SIZE, fit, (140.0, 120.0, 90.0), (70.0, 60.0, 50.0), net, True, "", "", "", 1)
    return Model(card, build_net(net, 2, SIZE).eval(), torch.device("cpu"))


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
def test_images_of_any_size_become_the_squares_of_training(fit: str) -> None:
    model = model_of(fit)
    for shape in SHAPES:
        images = np.random.default_rng(sum(shape)).integers(0, 256, (*shape, 3), dtype=np.uint8)
        expected = torch.empty((len(images), SIZE, SIZE, 3), dtype=torch.uint8)
        for image, square in zip(images, expected, strict=True):
            put(image, square.numpy(), SIZE, fit)
        ours = Deployed(model.card, model.net).squares(torch.from_numpy(images)).permute(0, 2, 3, 1)
        limit = 0 if shape[1:] == (SIZE, SIZE) else 2  # levels of 255
        assert (ours - expected.float()).abs().max() <= limit, shape


def test_what_cannot_be_exported_is_said() -> None:
    class Peeks(nn.Module):
        def forward(self, planes: torch.Tensor) -> torch.Tensor:
            return planes.mean((2, 3)) if float(planes.sum()) > 0 else planes.amax((2, 3))

    model = model_of()
    model.net = Peeks()
    with pytest.raises(NotExportable, match=r"torch\.export cannot hold this net"):
        export_program(model)
