"""`bassline demo`: the whole road, from a shop to a trained model, a line a stage, and the account of every second."""

from __future__ import annotations

import json as json_module
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from bassline import bench_stalls, console, crawl, files, report, results, set_split, train
from bassline.run_folder import read_run
from bassline.shop import Images, Products, draw
from shards.errors import ConfigError
from shards.files import write_atomic

__all__ = ["demo"]

# S5: what the original trained, selected and tested on. Used as they stand when the crawl gave the original's 8,000.
ORIGINAL_COUNTS: dict[str, tuple[int, ...]] = {"guitar": (3880, 1311, 1733), "bass": (620, 189, 267)}
FRACTIONS = (0.5625, 0.1875, 0.25)  # 4,500, 1,500 and 2,000 of 8,000

_MARKER = "demo.json"
_MADE = ("set", "split", "run", "bench.json", "report.html", _MARKER)


@dataclass
class _Folder:
    """The demo's folder: what it was asked for, so that an interrupted demo goes on and a finished one is made anew."""

    path: Path
    settings: dict[str, Any]
    port: int = 0
    stages: dict[str, float] = field(default_factory=dict)

    def open(self) -> None:
        """Resumes, replaces or begins.

        Raises:
            ConfigError: the folder holds something that is no demo's.
        """
        marker = self.path / _MARKER
        if self.path.exists() and (not self.path.is_dir() or (any(self.path.iterdir()) and not marker.is_file())):
            raise ConfigError("--out", "", f"{self.path} is not empty and not a demo's folder; name another")
        if marker.is_file():
            try:
                told = json_module.loads(marker.read_text(encoding="utf-8"))
                finished, settings, port = told["bassline_demo"]["finished"], told["settings"], int(told["port"])
                stages = {str(name): float(spent) for name, spent in told["stages"].items()}
            except (ValueError, KeyError, TypeError, AttributeError):
                raise ConfigError("--out", "", f"{marker} is not a demo's; name another folder") from None
            if not finished and settings == self.settings and _is_free(port):
                self.port, self.stages = port, stages
                console.note(f"going on with the interrupted demo in [bold]{self.path}[/]")
                return
            console.note(f"replacing the earlier demo in [bold]{self.path}[/]")
            for name in _MADE:
                target = self.path / name
                if target.is_dir() and not target.is_symlink():
                    shutil.rmtree(target)
                else:
                    target.unlink(missing_ok=True)
        self.path.mkdir(parents=True, exist_ok=True)
        self.port = _free_port()  # the crawl's addresses hold it: an interrupted crawl needs the same one again
        self.save()

    def save(self, *, finished: bool = False) -> None:
        """Writes the marker."""
        told = {
            "bassline_demo": {"finished": finished},
            "settings": self.settings,
            "port": self.port,
            "stages": self.stages,
        }
        write_atomic(self.path / _MARKER, [json_module.dumps(told).encode(), b"\n"])

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts a stage's seconds, those before an interruption too."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.stages[name] = self.stages.get(name, 0.0) + time.perf_counter() - begun
            self.save()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _split(source: Path, out: Path, seed: int) -> None:
    if (out / "split.json").is_file():
        return
    from shards.shard_set import ShardSet

    with ShardSet.open(source) as opened:
        counts = opened.counts
    original = counts == {label: sum(parts) for label, parts in ORIGINAL_COUNTS.items()}
    set_split.run_split(
        source,
        out,
        seed=seed,
        label_counts=ORIGINAL_COUNTS if original else None,
        fractions=None if original else FRACTIONS,
    )


def _lead(shards: Path, images: Path | None, result: dict[str, Any]) -> str:
    from shards.shard_set import ShardSet

    with ShardSet.open(shards) as opened:
        counts = ", ".join(f"{count:,} {label}" for label, count in opened.counts.items())
        origin = f"the photographs in {images.name}" if images else "thumbnails drawn from a seed"
        return (
            f"{len(opened):,} thumbnails ({counts}), crawled over HTTP from the embedded shop ({origin}); "
            f"{result['samples']['train']:,} to train, {result['samples']['val']:,} to select, "
            f"{result['samples']['test']:,} to test."
        )


def _cards(result: dict[str, Any]) -> list[tuple[str, str]]:
    test = result["test"]
    low, high = test["ci95"]
    return [
        (f"{test['accuracy']:.2%}", f"test accuracy, 95 % interval {low:.2%} to {high:.2%}"),
        (f"{test['majority_rate']:.2%}", "majority rate: always naming the commonest label"),
        (f"{test['balanced_accuracy']:.2%}", "balanced accuracy: mean recall of the labels"),
        (
            console.seconds(result["time_to_best_s"]),
            f"from the training's start to the best model, epoch {result['best_epoch']}",
        ),
        (f"{result['images_per_s']:,.0f}", "images/s in training, after the first epoch"),
    ]


def _seconds(stages: dict[str, float], result: dict[str, Any]) -> list[tuple[str, float, bool]]:
    """Rows of the account: (name, seconds, whether it is a part of the row above)."""
    rows = []
    for name, spent in stages.items():
        rows.append((name, spent, False))
        if name == "train":
            rows += [(part, amount, True) for part, amount in result["time_s"].items() if amount and amount >= 0.05]
    return rows


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the set, the split, the run and the report.")] = Path("demo"),
    images: Images = None,
    products: Products = 8000,
    seed: Annotated[int, typer.Option(min=0, help="Of the drawn shop and of the split.")] = 0,
    json: console.JsonFlag = False,
) -> None:
    """Do the whole job: shop, crawl, split, train, bench, report.

    Example: bassline demo --images photos/ --out demo-photos
    """
    settings = {"images": str(images.resolve()) if images else None, "products": products, "seed": seed}
    folder = _Folder(out, settings)
    if images is not None and not images.is_dir():
        raise ConfigError("--images", "", f"{images} is not a folder; give one that holds a folder of images per label")
    from crawler.shop.process import shop_process

    folder.open()
    begun = time.perf_counter()
    shards, split, run_folder = out / "set", out / "split", out / "run"
    with folder.stage("shop"):
        draw(images, products, seed)
    with folder.stage("crawl"), shop_process(images=images, products=products, seed=seed, port=folder.port) as url:
        name = "folder" if images else "embedded"
        crawl.run_crawl(name, shards, start=url)
    with folder.stage("split"):
        _split(shards, split, seed)
    with folder.stage("train"):
        # Ten labels of a few hundred photographs need more epochs than two of thousands, and each is shorter.
        overrides = ["train.epochs=40", "select.patience=12"] if images else []
        result = train.run_training(files.battery("demo.toml"), split, run_folder, overrides, started=time.monotonic())
    with folder.stage("bench"):
        found = bench_stalls.run_stalls(
            files.battery("demo.toml"), split, out / "bench.json", overrides, rounds=10, seconds=0.2
        )
    with folder.stage("report"):
        run = read_run(run_folder)
        page = report.write_page(
            [run],
            out / "report.html",
            title=f"Bassline demo: {images.name if images else 'guitar or bass'}",
            lead=_lead(shards, images, result),
            data=split,
            cards=_cards(result),
            stages=list(folder.stages.items()),
            bench=bench_stalls.for_report(found),
        )
    folder.save(finished=True)
    if json:
        console.emit(result)
        return
    console.out.print()
    console.out.print(results.terminal_table([run]))
    for line in results.warnings([run]):
        console.note(f"[yellow]![/] {line}")
    console.out.print()
    console.out.print(console.seconds_table("Where each second went", _seconds(folder.stages, result)))
    console.out.print(f"\n{found['verdict']['sentence']}")
    console.out.print(
        f"\nreport: [bold]{page}[/]   [dim](the job took {console.seconds(time.perf_counter() - begun)})[/]"
    )
