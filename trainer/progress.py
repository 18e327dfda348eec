"""What a run tells while it runs."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Progress"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands.

    Args:
        stage: "decode", "compile", "train", "validate" or "test".
        done, total: samples of the stage; for train and validate those of this epoch.
        epoch, epochs: from 1; 0 before the first.
        train_loss, val_loss, val_accuracy: of the last whole epoch, None before it.
        best_epoch: 0 before the first.
        images_per_s: training rate of the last whole epoch.
    """

    stage: str
    done: int
    total: int
    epoch: int = 0
    epochs: int = 0
    train_loss: float | None = None
    val_loss: float | None = None
    val_accuracy: float | None = None
    best_epoch: int = 0
    images_per_s: float | None = None
