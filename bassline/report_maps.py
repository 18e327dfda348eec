"""The report's explanation maps: of its best run, in a time that a report may take."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bassline import console
from bassline.run_folder import Run

__all__ = ["maps_of_best"]

IMAGES, STEPS, DRAWS, MOST = 9, 16, 2, 400
"""Images shown, points of the integral, random nets, test images looked at: some 10 s for a net of the seed battery."""

_LARGE = 3_000_000
"""Parameters above which a net's maps are left to `bassline explain`."""


def maps_of_best(runs: Sequence[Run], data: Path) -> tuple[dict[str, Any] | None, str]:
    """What the template draws of the run of lowest validation loss that learned more than one label; or why not."""
    able = [run for run in runs if not run.single_class and (run.folder / "best.safetensors").is_file()]
    if not able:
        return None, "no run that has its model and says more than one label"
    best = min(able, key=lambda run: float(run.result["min_loss"]))
    if find_spec("captum") is None:
        return None, "captum is not installed; the extra has it: pip install 'bassline[explain]'"
    if best.result["parameters"] > _LARGE:
        return None, f"{best.name} is large: bassline explain {best.folder} {data}"
    with console.stage("maps") as stage:
        stage.update(0, None, "loading torch and captum")
        from bassline.explain import of_set
        from bassline.explain_page import section
        from trainer.explain import Explainer
        from trainer.predict import load
        from trainer.survey import survey

        model = load(best.folder)
        explainer = Explainer(model, steps=STEPS, occlude=False)
        subjects, _ = of_set(model, data / "test", MOST)
        found = survey(
            explainer, subjects, images=IMAGES, draws=DRAWS, per_label={"gradcam": 30, "hirescam": 30},
            on_progress=stage.update,
        )  # fmt: skip
        stage.summary = f"{best.name}, {len(subjects.names):,} images"
        return section(explainer, found) | {"run": best.name}, ""
