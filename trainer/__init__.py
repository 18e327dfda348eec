"""trainer: a split in, a run folder out. `trainer.load(path).predict(images)` uses what came out.

Importing the room costs nothing: torch is imported with the first name that needs it. Training is `trainer.fit.fit`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.config import RunConfig, load_run

if TYPE_CHECKING:
    from trainer.predict import Model, Prediction, load
    from trainer.progress import Progress

__all__ = ["Model", "Prediction", "Progress", "RunConfig", "load", "load_run"]

_LATE = {
    "Model": "trainer.predict",
    "Prediction": "trainer.predict",
    "Progress": "trainer.progress",
    "load": "trainer.predict",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _LATE:
        return getattr(import_module(_LATE[name]), name)
    raise AttributeError(f"module 'trainer' has no attribute {name!r}")
