"""The plain PyTorch loop that `bench train` holds runs against: what a careful user writes without Bassline.

ImageFolder and DataLoader with workers, modules in the usual order, torch.optim, the best state dict saved. It shares
no code with the trainer. Run as `python -m bench.plain_loop JSON`; writes one JSON line.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def main(wish: dict[str, Any]) -> dict[str, Any]:
    """Trains as `wish` says; times are seconds since `wish["started"]`, a `time.monotonic()` of the process before."""

    def now() -> float:
        return time.monotonic() - float(wish["started"])

    began = now()
    import torch
    from PIL import Image, ImageOps
    from torch import nn
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    imported = now()
    config, size = wish["config"], wish["config"]["data"]["size"]

    def square(image: Image.Image) -> Image.Image:
        if config["data"]["fit"] == "pad":
            inside = ImageOps.contain(image, (size, size), Image.Resampling.BILINEAR)
            canvas = Image.new("RGB", (size, size), (255, 255, 255))
            # ImageOps.pad rounds an odd margin to even: a picture a pixel off, which gives other losses
            canvas.paste(inside, ((size - inside.width) // 2, (size - inside.height) // 2))
            return canvas
        if config["data"]["fit"] == "crop":
            return ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
        return image.resize((size, size), Image.Resampling.BILINEAR)

    mean, std = ([value / 255 for value in wish[name]] for name in ("mean", "std"))
    transform = transforms.Compose([square, transforms.ToTensor(), transforms.Normalize(mean, std)])
    train_set, val_set = (ImageFolder(f"{wish['folders']}/{part}", transform) for part in ("train", "val"))
    torch.manual_seed(config["train"]["seed"])

    layers: list[nn.Module] = []
    maps, side = 3, size
    for layer in config["net"]["layers"]:
        layers.append(nn.Conv2d(maps, layer["maps"], layer["kernel"], layer["stride"], layer["padding"]))
        if layer["batch_norm"]:
            layers.append(nn.BatchNorm2d(layer["maps"]))
        layers.append(nn.ReLU(inplace=True))
        if layer["pool"] > 1:
            layers.append(nn.MaxPool2d(layer["pool"]))
        if layer["dropout"]:
            layers.append(nn.Dropout(layer["dropout"]))
        maps, side = layer["maps"], ((side + 2 * layer["padding"] - layer["kernel"]) // layer["stride"] + 1)
        side //= layer["pool"]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(maps * side * side, len(train_set.classes)))

    optim = config["optim"]
    optimiser = torch.optim.SGD(
        model.parameters(),
        optim["lr"],
        momentum=optim["momentum"],
        weight_decay=optim["weight_decay"],
        nesterov=optim["nesterov"],
    )
    criterion = nn.CrossEntropyLoss(label_smoothing=optim["label_smoothing"])
    batch, workers = config["train"]["batch"], wish["workers"]
    train_loader = DataLoader(train_set, batch, shuffle=True, num_workers=workers, persistent_workers=True)
    val_loader = DataLoader(val_set, batch, num_workers=workers, persistent_workers=True)

    best, epochs = float("inf"), []
    for epoch in range(1, config["train"]["epochs"] + 1):
        started = now()
        model.train()
        images = 0
        for x, y in train_loader:
            optimiser.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimiser.step()
            images += len(y)
        trained = now()
        model.eval()
        total, right = 0.0, 0
        with torch.no_grad():
            for x, y in val_loader:
                logits = model(x)
                total += nn.functional.cross_entropy(logits, y, reduction="sum").item()
                right += int((logits.argmax(1) == y).sum())
        val_loss = total / len(val_set)
        validated = now()
        if val_loss < best:
            best = val_loss
            torch.save(model.state_dict(), f"{wish['out']}/best.pt")
        epochs.append(
            {
                "epoch": epoch, "images": images, "seconds": trained - started, "validate_s": validated - trained,
                "val_loss": val_loss, "val_accuracy": right / len(val_set), "ended_s": validated,
            }
        )  # fmt: skip
    return {"start_s": began, "import_s": imported - began, "epochs": epochs}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.loads(sys.argv[1]))) + "\n")
