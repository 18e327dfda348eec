"""explain, export and report over one small run that was really trained."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import trainer
from bassline.run_folder import find_runs
from shards.sample import Sample
from shards.writer import write_set
from trainer.config import RunConfig
from trainer.fit import fit

from .conftest import Run
from .run_folders import make_run, make_split

LABELS = ("banjo", "guitar")


@pytest.fixture(scope="module")
def parts(instruments10: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two labels: 12, 4 and 7 thumbnails each."""
    root = tmp_path_factory.mktemp("parts")
    for name, first, last in (("train", 0, 12), ("val", 12, 16), ("test", 16, 23)):
        samples = [
            Sample(f"{label}-{i}", file.read_bytes(), "jpg", number, {"image_url": f"https://shop.example/{i}.jpg"})
            for number, label in enumerate(LABELS)
            for i, file in enumerate(sorted((instruments10 / label).glob("*.jpg"))[first:last])
        ]
        write_set(root / name, samples, LABELS, source={"kind": "test"}, split=name).close()  # type: ignore[union-attr]
    return root


@pytest.fixture(scope="module")
def run(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "tiny"
    config = {
        "name": "tiny",
        "data": {"size": 32},
        "net": {"layers": [{"kernel": 5, "maps": 4, "batch_norm": True, "dropout": 0.1}]},
        "optim": {"lr": 0.05, "momentum": 0.6},
        "train": {"batch": 8, "epochs": 8},
        "test": {"flip": True},
    }
    fit(RunConfig.model_validate(config), parts, out)
    return out


_ALONE = """
import json, sys
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
(given,) = session.get_inputs()
told = {"input": [given.name, given.type, given.shape], "answers": []}
for name in sys.argv[2:]:
    told["answers"].append(session.run(["probabilities"], {"images": np.load(name)})[0].tolist())
assert "torch" not in sys.modules
print(json.dumps(told))
"""


def test_an_export_answers_as_the_run_without_torch_and_its_card_is_true(
    run: Path,
    parts: Path,
    bassline: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    done = bassline("export", run, "--onnx", "--torch", "--data", parts, "--out", out, "--json")
    told = json.loads(done.stdout.splitlines()[-1])
    assert set(told["files"]) == {"model.onnx", "model.pt2", "MODEL_CARD.md"}
    for parity in told["parity"].values():
        assert parity["same"] == parity["samples"] == parity["recorded_same"] == 14
        assert parity["largest"] < 0.01
    assert "model.onnx: the same label for 14 of 14 test images" in done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["MODEL_CARD.md", "model.onnx", "model.pt2"]

    # one batch of each shape, in a process without torch; the squares' own size must agree to rounding
    model = trainer.load(run)
    files = []
    for number, shape in enumerate([(3, 32, 32), (1, 32, 32), (2, 61, 40), (1, 1, 1)]):
        np.save(tmp_path / f"{number}.npy", np.random.default_rng(number).integers(0, 256, (*shape, 3), np.uint8))
        files.append(tmp_path / f"{number}.npy")
    alone = subprocess.run(
        [sys.executable, "-c", _ALONE, str(out / "model.onnx"), *map(str, files)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    said = json.loads(alone.stdout)
    assert said["input"] == ["images", "tensor(uint8)", ["batch", "height", "width", 3]]
    for file, answers in zip(files, said["answers"], strict=True):
        expected = [list(each.probabilities.values()) for each in model.predict(list(np.load(file)))]
        np.testing.assert_allclose(answers, expected, atol=1e-5 if file.stem in "01" else 5e-3)

    # the card's own lines, as a reader would paste them
    card = (out / "MODEL_CARD.md").read_text()
    assert "| banjo | 12 | 4 | 7 |" in card
    assert "The images come from shop.example." in card
    image = _image_of(parts, tmp_path)
    wanted = model.predict([image])[0]
    onnx_code, torch_code = re.findall(r"```python\n(.*?)```", card, re.S)
    (out / "photo.jpg").write_bytes(image.read_bytes())
    code = onnx_code + "\nimport sys; assert 'torch' not in sys.modules"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=out).stdout
    label, probability = shown.split()
    assert (label, float(probability)) == (wanted.label, pytest.approx(wanted.probability, abs=5e-3))
    monkeypatch.chdir(out)
    capfd.readouterr()
    exec(torch_code, {})
    assert capfd.readouterr().out.split()[0] == wanted.label


def _image_of(parts: Path, folder: Path) -> Path:
    from shards.shard_set import ShardSet

    with ShardSet.open(parts / "test") as test:
        (folder / "one.jpg").write_bytes(bytes(test.image(0)))
    return folder / "one.jpg"


def test_an_export_that_answers_otherwise_is_not_written(
    run: Path, parts: Path, bassline: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer import export

    opened = export.open_torch

    def liar(path: Path) -> export.Runner:
        honest = opened(path)
        return lambda images: np.ascontiguousarray(honest(images)[:, ::-1])

    monkeypatch.setattr(export, "open_torch", liar)
    done = bassline("export", run, "--torch", "--data", parts, "--out", tmp_path / "out", check=1)
    assert re.search(
        r"model\.pt2 gives another label for 14 of 14 test images \(.* and more\); nothing was", done.stderr
    )
    assert not list(tmp_path.glob("*out*"))


def test_a_set_explained_is_one_page_and_pictures(run: Path, parts: Path, bassline: Run, tmp_path: Path) -> None:
    pytest.importorskip("captum")
    arguments = ("explain", run, parts, "--images", "6", "--steps", "4", "--out", tmp_path / "maps")
    told: dict[str, Any] = json.loads(bassline(*arguments, "--json").stdout.splitlines()[-1])
    html = Path(told["page"]).read_text()
    assert not re.search(r"""(src|href)=(?!"data:image/)""", html), "no outside asset"
    assert "<script" not in html
    assert {each["method"] for each in told["sanity"]} == {"gradcam", "hirescam", "ig"}
    for each in told["sanity"]:
        assert each["said"].replace("'", "&#39;") in html
    assert told["images"] == 14
    shown = sum(map(len, told["shown"].values()))
    pictures = [name for name in told["files"] if name.endswith(".png")]
    assert {"filters.png", "mean-banjo.png", "mean-guitar.png"} < set(pictures)
    assert len(pictures) == shown + 3
    for name in pictures:
        with Image.open(tmp_path / "maps" / name) as picture:
            assert picture.convert("L").getextrema()[0] < 200, f"{name} is blank"
    # again, over images this time: the old page gives way to the new
    image = _image_of(parts, tmp_path)
    (tmp_path / "no.jpg").write_bytes(b"no image")
    done = bassline(
        "explain", run, image, tmp_path / "no.jpg", "--steps", "2", "--no-occlusion", "--out", tmp_path / "maps"
    )
    assert "no.jpg: not an image, or a damaged one" in done.stderr
    assert "Grad-CAM:" in done.stdout
    assert not (tmp_path / "maps" / "mean-banjo.png").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["explain", "RUN", "nowhere.jpg"], 2, "nowhere.jpg: no such file, folder or set"),
        (["explain", "RUN", "RUN/run.toml", "PARTS"], 2, "is a set: give it alone"),
        (["explain", "RUN", "RUN"], 2, "no images in this folder"),
        (["explain", "RUN", "RUN/run.toml"], 1, "none of 1 image could be read"),
        (
            ["explain", "RUN", "PARTS", "--layer", "layer7"],
            2,
            "no such module; among its modules are layer1",
        ),
        (["explain", "RUN", "PARTS", "--baseline", "blue"], 2, "white, black or mean was expected"),
        (["explain", "RUN", "PARTS", "--out", "PARTS"], 2, "holds something else"),
        (["explain", "nowhere", "PARTS"], 1, "no such file; give a run folder or the best.safetensors"),
        (["export", "RUN", "--data", "PARTS"], 2, "give --onnx, --torch or both"),
        (["export", "RUN", "--onnx", "--data", "RUN"], 2, "holds no test/ shard set"),
        (["export", "RUN/best.safetensors", "--onnx", "--data", "PARTS"], 1, "is no folder; give a run folder"),
        (["export", "PARTS", "--onnx", "--data", "PARTS"], 1, "not a run folder"),
        (["report", "RUN", "--original", "RUN/run.toml"], 2, "no runs: write [[runs]]"),
    ],
)
def test_what_is_wrong_gets_one_line(
    run: Path, parts: Path, bassline: Run, arguments: list[str], code: int, said: str
) -> None:
    given = [word.replace("RUN", str(run)).replace("PARTS", str(parts)) for word in arguments]
    done = bassline(*given, check=code)
    assert said in " ".join(done.stderr.split())


def test_a_report_over_many_runs_has_the_originals_and_the_maps_of_the_best(
    run: Path, parts: Path, bassline: Run, tmp_path: Path, thumbnails: dict[str, list[Path]]
) -> None:
    answers = make_split(tmp_path / "other", thumbnails)
    runs = tmp_path / "battery" / "runs"
    for name in ("T5", "T10", "T2"):
        make_run(runs / f"{name}-0", name, sorted(thumbnails), answers, always="guitar" if name == "T2" else None)
    assert [each.name for each in find_runs([tmp_path / "battery"])] == ["T2", "T5", "T10"]
    page = tmp_path / "all.html"
    done = bassline("report", tmp_path / "battery", run, "--data", parts, "--out", page, "--json")
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["original"] == {
        "T5": {"min_loss": 0.07, "best_epoch": 21, "accuracy": 98.45, "to_best_min": 0.63, "total_min": 28.22}
    }, "T2 and T10 have T5's net here, so the original's figures are not theirs"
    html = page.read_text()
    assert '<th colspan="5" class="theirs">original</th>' in html
    assert html.count('<td class="theirs">98.45</td>') == 1
    assert html.count("<details") == 4
    assert html.count("<details open>") == 1
    assert "What tiny looks at" in html
    assert "The mean map of each label" in html
    assert not re.search(r"""(src|href)=(?!"data:image/)""", html), "no outside asset"
    assert "What tiny looks at" not in _again(bassline, run, parts, page)


def _again(bassline: Run, run: Path, parts: Path, page: Path) -> str:
    bassline("report", run, "--data", parts, "--out", page, "--no-maps")
    return page.read_text()
