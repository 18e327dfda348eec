"""`bassline predict`: from the model file alone, of whatever is named, and what cannot be read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from .conftest import Run
from .game_run import LABELS, answers, picture


@pytest.fixture
def model(game_run: Path, tmp_path: Path) -> Path:
    """The model file alone, in a folder with nothing else."""
    return Path(shutil.copy(game_run / "run" / "best.safetensors", tmp_path / "alone.safetensors"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images, one of them without a name that says so; a broken one; a text."""
    made = tmp_path / "photos"
    (made / "inner").mkdir(parents=True)
    (made / "a.jpg").write_bytes(picture(0, 1))
    (made / "inner" / "b.PNG").write_bytes(picture(1, 1, "PNG"))
    (made / "c").write_bytes(picture(2, 1, "WEBP"))
    (made / "d.jpg").write_bytes(picture(0, 2)[:300])
    (made / "notes.txt").write_text("no image")
    return made


def test_a_sets_answers_are_those_of_the_run(bassline: Run, game_run: Path, model: Path) -> None:
    done = bassline("predict", model, game_run / "split", "--json", check=1)
    told = json.loads(done.stdout.splitlines()[-1])
    expected = answers(game_run)
    assert (told["read"], told["unread"]) == (29, 1)
    assert len(expected) == 29
    for row in told["predictions"]:
        assert row["truth"] == row["image"].removeprefix("test/").partition("-")[0]
        if "error" in row:
            assert row["image"] == "test/bass-1"
            continue
        run_said = expected[row["image"].removeprefix("test/")]
        assert row["label"] == run_said["predicted"]
        shares = [row["probabilities"][label] for label in LABELS]
        assert shares == pytest.approx(run_said["probabilities"], abs=1e-4)
    right = sum(one["predicted"] == one["label"] for one in expected.values())
    assert told["test"]["accuracy"] == pytest.approx(right / 29)
    assert "1 of 30 images could not be read" in done.stderr
    assert "! test/bass-1: not an image" in done.stderr


def test_lines_come_one_an_image(bassline: Run, game_run: Path) -> None:
    done = bassline("predict", game_run / "run", game_run / "split", "--part", "val", "--lines", "--json")
    *lines, last = map(json.loads, done.stdout.splitlines())
    assert [line["image"] for line in lines[:3]] == ["val/banjo-0", "val/bass-0", "val/guitar-0"]
    assert len(lines) == last["read"] == 18
    assert "predictions" not in last


def test_a_folder_and_a_broken_image_in_it(bassline: Run, model: Path, folder: Path, tmp_path: Path) -> None:
    done = bassline("predict", model, folder, check=1)
    assert done.stdout.startswith("3 images")
    assert "d.jpg: not an image, or a damaged one" in done.stderr
    assert "notes.txt the first" in done.stderr
    assert done.stderr.splitlines()[-1] == "error 1 of 4 images could not be read, named above"
    (folder / "d.jpg").unlink()
    rows = json.loads(bassline("predict", model, folder, "--json").stdout)["predictions"]
    assert [Path(row["image"]).name for row in rows] == ["a.jpg", "c", "b.PNG"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere.jpg"], 2, "nowhere.jpg: no such file or folder"),
        (["empty"], 2, "empty: no images in this folder"),
        (["SPLIT", "--part", "tests"], 2, "has the parts train, val, test"),
        (["empty", "--device", "tpu"], 2, "expected cpu, cuda or auto"),
        (["text.jpg"], 1, "none of 1 image could be read"),
        (["http://127.0.0.1/a.jpg"], 1, "127.0.0.1 is 127.0.0.1, which is not public"),
        (["http://127.0.0.1/a.jpg"], 1, "none of 1 image could be read, see above"),
        (["ftp://127.0.0.1:1/set"], 1, "ftp://127.0.0.1:1/set: cannot be reached"),
        (["http://user@[::1]:80/a.jpg"], 1, "is not an http(s) address"),
    ],
)
def test_what_cannot_be(
    bassline: Run, game_run: Path, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.jpg").write_text("text")
    arguments = [str(game_run / "split") if argument == "SPLIT" else argument for argument in arguments]
    done = bassline("predict", game_run / "run", *arguments, check=code)
    assert said in done.stderr
    assert "image" not in done.stdout, "a table of nothing"


class _Shop(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.server.server_address[1]}/bass.jpg")
            self.end_headers()
            return
        body = {"/bass.jpg": picture(1, 7), "/page": b"<html>", "/huge": bytes(10_000_001)}.get(self.path)
        self.send_response(404 if body is None else 200)
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *told: object) -> None:
        pass


@pytest.fixture
def shop() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Shop) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_addresses_are_fetched_as_a_crawl_would(bassline: Run, game_run: Path, shop: str, tmp_path: Path) -> None:
    (tmp_path / "same.jpg").write_bytes(picture(1, 7))
    paths = ("bass.jpg", "elsewhere", "page", "huge", "gone")
    urls = [f"{shop}/{path}" for path in paths]
    done = bassline("predict", game_run / "run", *urls, "same.jpg", "--allow-private", "127.0.0.1", "--json", check=1)
    rows = json.loads(done.stdout.splitlines()[-1])["predictions"]
    assert [row["image"] for row in rows] == [*urls, "same.jpg"]
    assert rows[0]["probabilities"] == rows[-1]["probabilities"]
    for row, why in zip(rows[1:5], ("localhost resolves to", "not an image", "too-large", "http-404"), strict=True):
        assert why in row["error"]
    assert "4 of 6 images could not be read" in done.stderr
    refused = json.loads(bassline("predict", game_run / "run", urls[0], "--json", check=1).stdout.splitlines()[-1])
    assert "--allow-private HOST takes it" in refused["predictions"][0]["error"]
