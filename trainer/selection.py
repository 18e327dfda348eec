"""Which epoch is kept, and why a run ends before its last: from the validation part alone."""

from __future__ import annotations

from typing import Any

import torch

from trainer.config import Select
from trainer.metrics import Metrics

__all__ = ["Selection"]


class Selection:
    """The best epoch so far and the counters that may end the run.

    Attributes:
        best: `epoch`, `value` of the metric, `loss`, `val` (all measures) and `clock` of the best epoch.
        stopped: why the run ended early; empty while it goes on.
    """

    def __init__(self, how: Select) -> None:
        self.how = how
        self.best: dict[str, Any] = {"epoch": 0, "value": None}
        self.since_best, self.collapsed, self.stopped = 0, 0, ""
        self._weights: dict[str, torch.Tensor] = {}

    def hold(self, weights: dict[str, torch.Tensor]) -> None:
        """Takes memory for the best weights, on the device of `weights`."""
        self._weights = {name: tensor.clone() for name, tensor in weights.items()}

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The best epoch's weights, by name."""
        return self._weights

    def consider(
        self, epoch: int, measured: Metrics, weights: dict[str, torch.Tensor], clock: dict[str, float]
    ) -> None:
        """Keeps this epoch's weights if they are the best; a copy on the device, nothing waits."""
        by_loss = self.how.metric == "val_loss"
        value, best = getattr(measured, self.how.metric.removeprefix("val_")), self.best["value"]
        if value is None or not (best is None or (value < best if by_loss else value > best)):
            self.since_best += 1
            return
        self.since_best = 0
        for name, tensor in weights.items():
            self._weights[name].copy_(tensor)
        # Validation itself is under way and its seconds are not yet on the clock; `total` has them.
        self.best = {
            "epoch": epoch, "value": value, "loss": measured.loss, "val": measured.to_json(), "clock": clock,
        }  # fmt: skip

    def count(self, line: dict[str, Any]) -> None:
        """Takes in a line of the history: epochs in a row that said one label only survive a kill that way."""
        self.collapsed = self.collapsed + 1 if line["val_single_class"] is not None else 0

    def over(self) -> bool:
        """Whether the run should end here."""
        if self.how.patience and self.since_best >= self.how.patience:
            self.stopped = "patience"
        elif self.how.stop_collapsed and self.collapsed >= self.how.stop_collapsed:
            self.stopped = "collapsed"
        return bool(self.stopped)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"since_best": self.since_best, "best": self.best, "best_weights": self._weights}

    def take_up(self, state: dict[str, Any]) -> None:
        """Goes on from what `state` gave."""
        self.since_best, self.best = state["since_best"], state["best"]
        for name, tensor in state["best_weights"].items():
            self._weights[name].copy_(tensor)
