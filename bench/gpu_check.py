"""Everything a GPU has to show, in one script, for the day one is lent: checks first, then what is only measured.

    python -m bench.gpu_check --data SPLIT --out check.json            # on the GPU; about 8 minutes with 1,000 epochs
    python -m bench.gpu_check --data SPLIT --out check.json --device cpu --epochs 2 --size 32     # the same code, here

The record is written anew after each part, so that a machine whose minutes end leaves what it had. A part that goes
wrong costs itself. Parts: pixels, decode, executors, precision, dropout, resume, loaders, battery (`--parts`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.record import fingerprint
from shards.files import write_atomic
from shards.read import gather
from trainer.battery import load_battery, run_battery
from trainer.config import Augment, Average, Net, Optim, RunConfig, Train, resolve
from trainer.decode import Decoder, open_decoder
from trainer.device import be_deterministic, choose_device
from trainer.errors import RunStopped
from trainer.executor import open_executor
from trainer.fit import fit
from trainer.nets import build_net
from trainer.optim import Optimiser
from trainer.split_data import open_split
from trainer.step import Normaliser, Step

__all__ = ["Check", "main"]

BATTERY = Path(__file__).parent.parent / "battery" / "seed.toml"
PIXELS = 3  # levels that decoders may differ by inside the picture, docs/decisions/trainer-decoders.md
BUDGET_S, SLOWEST = 300.0, 0.8  # the ten runs from the command's start; a run against its bare replay
CLOSE = {"fp32": 2e-3, "bf16": 5e-2, "fp16": 2e-2}  # of the mean loss of some steps against eager fp32


class Check:
    """The parts, each a method that gives numbers and, under `ok`, whether they are as they must be."""

    def __init__(self, data: Path, device: str, size: int, epochs: int) -> None:
        self.data, self.size, self.epochs = data, size, epochs
        self.device = choose_device(Train.model_validate({"device": device}))
        self.gpu = self.device.type == "cuda"

    def pixels(self) -> dict[str, Any]:
        """Each decoder's squares on this device against Pillow's on the CPU, away from the rim."""
        with closing(open_split(self.data)) as split:
            images = gather(split.train, np.arange(min(256, len(split.train))))
            expected = self._squares(open_decoder("pillow", self.size, "stretch", 0, "cpu"), images)
            found: dict[str, Any] = {"images": len(images)}
            for name in ("dali", "torchvision", "simplejpeg"):
                made = self._squares(open_decoder(name, self.size, "stretch", 0, self.device.type), images)
                apart = (made.cpu().int() - expected.int()).abs()[:, 4:-4, 4:-4]
                each = apart.flatten(1).amax(1)
                found[name] = {
                    "most": int(each.max()), "mean": float(apart.float().mean()), "over": int((each > PIXELS).sum()),
                }  # fmt: skip
        found["ok"] = all(found[name]["over"] == 0 for name in ("dali", "torchvision", "simplejpeg"))
        return found

    def decode(self) -> dict[str, Any]:
        """Images/s of each decoder into the device's memory, by batch and threads: FACTS section 3's sweep."""
        found: dict[str, Any] = {}
        with closing(open_split(self.data)) as split:
            whole = gather(split.train, np.arange(min(4096, len(split.train))))
            for name in ("dali", "torchvision", "simplejpeg"):
                for threads in (4, 8, 16) if self.gpu else (1, 2):
                    for batch in (256, 1024, 4096) if self.gpu else (64,):
                        decoder = open_decoder(name, self.size, "pad", threads, self.device.type)
                        out = torch.zeros((batch, self.size, self.size, 3), dtype=torch.uint8, device=self.device)
                        took = [self._pass(decoder, whole, out, batch) for _ in range(3)]
                        decoder.close()
                        found[f"{name} t{threads} b{batch}"] = round(len(whole) / min(took[1:]), 1)
        return {"images_per_s": found, "best": max(found, key=lambda key: found[key])}

    def executors(self) -> dict[str, Any]:
        """Compiled and graph against eager on a step with everything in it that is not drawn at random."""
        names = ("eager", "compiled", "graph") if self.gpu else ("eager", "compiled")
        nets = {"conv": _CONV, "residual": _RESIDUAL}
        found: dict[str, Any] = {"ok": True}
        for kind, net in nets.items():
            for optim in (_SGD, _MUON):
                rows = {name: self._losses(net, optim, name) for name in names}
                for name in names[1:]:
                    off = _apart(rows[name]["losses"], rows["eager"]["losses"])
                    good = off < CLOSE["fp32"] and rows[name]["untouched"]
                    found[f"{kind} {optim.kind} {name}"] = {"off": off, **rows[name], "ok": good}
                    found["ok"] &= good
                found[f"{kind} {optim.kind} eager"] = rows["eager"]
        return found

    def precision(self) -> dict[str, Any]:
        """bf16 and fp16 against fp32: eager, and captured."""
        found: dict[str, Any] = {"ok": True}
        exact = self._losses(_RESIDUAL, _SGD, "eager")["losses"]
        for precision in ("bf16", "fp16") if self.gpu else ("bf16",):
            for name in ("eager", "graph") if self.gpu else ("eager",):
                off = _apart(self._losses(_RESIDUAL, _SGD, name, precision)["losses"], exact)
                found[f"{precision} {name}"] = off
                found["ok"] &= off < CLOSE[precision]
        return found

    def dropout(self) -> dict[str, Any]:
        """Replays must not repeat a drawing (pytorch #84614), and the same seed must."""
        name = "graph" if self.gpu else "eager"
        still = Optim(lr=1e-12)
        torch.manual_seed(3)
        one = self._losses(_DROPPED, still, name, seed=5, same=True)["losses"]
        two = self._losses(_DROPPED, still, name, seed=5, same=True)["losses"]
        return {"executor": name, "losses": one[:4], "ok": len(set(one)) == len(one) and one == two}

    def resume(self) -> dict[str, Any]:
        """Four epochs at once, and two and two, in deterministic mode: bit for bit."""
        config = self._run({"train": {"epochs": 4, "checkpoint_s": 0, "deterministic": True, "batch": 32}})
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            fit(config, self.data, folder / "one")
            with suppress(RunStopped):
                fit(config, self.data, folder / "two", on_epoch=lambda line: "half" if line["epoch"] == 2 else None)
            fit(config, self.data, folder / "two")
            weights = [(folder / each / "best.safetensors").read_bytes() for each in ("one", "two")]
            losses = [_read_losses(folder / each) for each in ("one", "two")]
        be_deterministic(False)
        return {"losses": losses[0], "ok": weights[0] == weights[1] and losses[0] == losses[1]}

    def loaders(self) -> dict[str, Any]:
        """`bench loaders` over the training part, in a process of its own."""
        command = [sys.executable, "-m", "bassline", "bench", "loaders", str(self.data / "train"), "--json"]
        command += ["--repeats", "3" if self.gpu else "1", "--epochs", "3" if self.gpu else "2"]
        command += ["--workers", "16" if self.gpu else "1", "--size", str(self.size)]
        command += [] if self.gpu else ["--only", "resident", "--only", "stream-simplejpeg"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            return {"ok": False, "error": done.stderr.strip().splitlines()[-1]}
        record = json.loads(done.stdout.strip().splitlines()[-1])
        return {"images_per_s": {name: each["median"] for name, each in record["measurements"].items()}}

    def battery(self) -> dict[str, Any]:
        """T1 to T10, from this part's start: seconds in all, and each run against its bare replay."""
        sets = [f"train.epochs={self.epochs}", f"data.size={self.size}", f"train.device={self.device.type}"]
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as name:
            outcomes = run_battery(load_battery(BATTERY, sets), self.data, Path(name), started=began)
        total = time.monotonic() - began
        runs: dict[str, Any] = {}
        for each in outcomes:
            if (result := each.result) is None:
                runs[each.entry.name] = {"state": each.end.state, "reason": each.end.reason}
                continue
            bare = result["bare_images_per_s"]
            runs[each.entry.name] = {
                "total_s": result["total_s"], "time_s": result["time_s"], "best_epoch": result["best_epoch"],
                "test_accuracy": result["test"]["accuracy"], "images_per_s": result["images_per_s"],
                "of_bare": round(result["images_per_s"] / bare, 3) if bare else None, "executor": result["executor"],
            }  # fmt: skip
        shares = [run.get("of_bare") for run in runs.values()]
        ok = all(each.result is not None for each in outcomes)
        if self.gpu:
            ok = ok and total < BUDGET_S and all(share is None or share >= SLOWEST for share in shares)
        return {"epochs": self.epochs, "total_s": round(total, 1), "runs": runs, "ok": ok}

    # --- what the parts are made of

    def _squares(self, decoder: Decoder, images: Sequence[Any]) -> torch.Tensor:
        device = self.device if decoder.name != "pillow" else torch.device("cpu")
        out = torch.zeros((len(images), self.size, self.size, 3), dtype=torch.uint8, device=device)
        with closing(decoder):
            decoder.decode(images, out)
        return out

    def _pass(self, decoder: Decoder, images: Sequence[Any], out: torch.Tensor, batch: int) -> float:
        host = out if decoder.device == self.device.type or decoder.name == "torchvision" else out.cpu()
        self._wait()
        began = time.perf_counter()
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            decoder.decode(part, host[: len(part)])
            if host is not out:
                out[: len(part)].copy_(host[: len(part)])
        self._wait()
        return time.perf_counter() - began

    def _wait(self) -> None:
        if self.gpu:
            torch.cuda.synchronize(self.device)

    def _losses(
        self, net: Net, optim: Optim, executor: str, precision: str = "fp32", *, seed: int = 0, same: bool = False
    ) -> dict[str, Any]:
        """Mean loss of each of twelve steps, whether getting ready left the state alone, and seconds for it."""
        torch.manual_seed(0)
        made = build_net(net, 4, 32).to(self.device)
        mean, std = (torch.full((3,), value, device=self.device) for value in (127.0, 60.0))
        step = Step(
            made, Optimiser(made, optim, 12), Normaliser(mean, std, 16, 32, channels_last=False), batch=16, size=32,
            precision=precision, how=Augment(), label_smoothing=0.1, average=Average(kind="ema", decay=0.9), kinds=4,
            class_weights=torch.tensor([1.0, 2.0, 0.5, 1.0], device=self.device),
        )  # fmt: skip
        before = {name: tensor.clone() for name, tensor in step.tensors().items()}
        runner = open_executor(executor, step)
        prepared_s = runner.prepare([16, 7])
        untouched = all(torch.equal(tensor, before[name]) for name, tensor in step.tensors().items())
        torch.manual_seed(seed)
        losses = []
        for number in range(12):
            draw = torch.Generator().manual_seed(0 if same else number)
            step.images.copy_(torch.randint(0, 256, step.images.shape, generator=draw, dtype=torch.uint8))
            step.labels.copy_(torch.randint(0, 4, step.labels.shape, generator=draw))
            count = 7 if number == 11 and not same else 16
            step.start_epoch()
            step.before(number, np.arange(count), 1, 0)
            runner.run(count)
            step.after(number + 1)
            losses.append(float(step.loss_sum) / count)
        return {"losses": losses, "untouched": untouched, "prepared_s": round(prepared_s, 2)}

    def _run(self, tables: dict[str, Any]) -> RunConfig:
        net = {"layers": [{"kernel": 5, "maps": 8, "batch_norm": True, "dropout": 0.2}]}
        train = {"device": self.device.type, **tables["train"]}
        return resolve({"name": "check", "data": {"size": 32}, "net": net, "optim": {"momentum": 0.6}, "train": train})


_CONV = Net.model_validate({"layers": [{"kernel": 5, "maps": 8, "batch_norm": True}, {"kernel": 3, "maps": 8}]})
_RESIDUAL = Net.model_validate({"kind": "residual", "widths": [8, 16], "whiten": True})
_DROPPED = Net.model_validate({"layers": [{"kernel": 5, "maps": 8, "dropout": 0.5}]})
_SGD = Optim(kind="sgd", lr=0.02, momentum=0.6, weight_decay=1e-3, schedule="onecycle")
_MUON = Optim(kind="muon", lr=0.02, momentum=0.9, nesterov=True, schedule="triangular", clip=1.0)


def _apart(found: list[float], expected: list[float]) -> float:
    """Mean distance of the losses as a share of their mean."""
    return round(float(np.mean(np.abs(np.subtract(found, expected))) / np.mean(expected)), 6)


def _read_losses(run: Path) -> list[float]:
    return [json.loads(line)["val_loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


PARTS = ("pixels", "decode", "executors", "precision", "dropout", "resume", "loaders", "battery")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the parts that are asked for; 1 if one of them is not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu_check", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a split")
    parser.add_argument("--out", type=Path, required=True, help="the record, JSON")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--size", type=int, default=150, help="pixels a side, for decoding and the battery")
    parser.add_argument("--epochs", type=int, default=1000, help="of each run of the battery")
    parser.add_argument("--parts", default=",".join(PARTS), help="which, in this order")
    wish = parser.parse_args(arguments)
    if unknown := set(wish.parts.split(",")) - set(PARTS):
        parser.error(f"--parts: {', '.join(sorted(unknown))}: expected some of {', '.join(PARTS)}")
    check = Check(wish.data, wish.device, wish.size, wish.epochs)
    record: dict[str, Any] = {"kind": "gpu_check", "environment": fingerprint(), "device": wish.device, "parts": {}}
    for name in wish.parts.split(","):
        record["parts"][name] = told = _part(getattr(check, name))
        write_atomic(wish.out, [json.dumps(record, indent=1).encode(), b"\n"])
        verdict = "ok" if told.get("ok", True) else "NOT OK"
        sys.stdout.write(f"{name:<10} {told['seconds']:7.1f} s  {verdict}\n")
        sys.stdout.flush()
    return int(any(not part.get("ok", True) for part in record["parts"].values()))


def _part(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    began = time.monotonic()
    try:
        found = work()
    except Exception as error:
        found = {"ok": False, "error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
    return {**found, "seconds": round(time.monotonic() - began, 2)}


if __name__ == "__main__":
    sys.exit(main())
