"""One run in progress: everything between the images and result.json.

Everything random follows from (seed, epoch), so an epoch needs no history but the weights and the optimiser's state;
that makes resuming exact. The device is waited for once an epoch, never in a step.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from shards.errors import ConfigError
from shards.shard_set import ShardSet
from trainer import decode as decoders
from trainer.answers import answers, judge
from trainer.checkpoint import BEST_NAME, LAST_NAME, ModelCard, save_last, save_model
from trainer.clock import Clock
from trainer.config import RunConfig, config_hash
from trainer.decode import Decoder
from trainer.device import be_deterministic, choose_device, choose_precision, describe, keep_pages
from trainer.distributed import World, share, sum_gradients, synchronise, with_common_norms
from trainer.errors import LossNotFinite, RunStopped
from trainer.executor import bare_rate, open_executor
from trainer.nets import build_net, parameters_of
from trainer.optim import Optimiser
from trainer.prefetch import DecodeCrew, open_crew
from trainer.preparation import class_weights, epoch_order, prepare
from trainer.progress import Progress
from trainer.result import (
    METRICS_NAME,
    RESULT_NAME,
    TEST_NAME,
    History,
    seconds_of,
    write_result,
    write_test,
)
from trainer.selection import Selection
from trainer.shared import PartKey, Shared, shape_of
from trainer.split_data import SplitData
from trainer.step import Normaliser, Step
from trainer.store import Feed, Moments, choose_mode, decode_all
from trainer.stream import scan

__all__ = ["Session"]


class Session:
    """One run in progress: decoded data, net, step and executor, from the images to result.json.

    `open_decoder`, `decode` and `build`, in this order, make it ready to step; `go` does all of it.

    Args:
        config: the run.
        split: its data.
        out: the run folder.
        clock: counts from the command's start.
        on_progress, on_epoch: see `trainer.fit.fit`.
        shared: what runs before this one left for it.

    Raises:
        ConfigError: device or precision are not to be had here.
    """

    def __init__(
        self,
        config: RunConfig,
        split: SplitData,
        out: Path,
        clock: Clock,
        on_progress: Callable[[Progress], None] | None,
        *,
        on_epoch: Callable[[dict[str, Any]], str | None] | None = None,
        shared: Shared | None = None,
        world: World = World(),
    ) -> None:
        self.config, self.split, self.out, self.clock = config, split, out, clock
        self.on_progress, self._told = on_progress, 0.0
        self.on_epoch, self.shared = on_epoch, shared
        self.device = choose_device(config.train)
        self.precision = choose_precision(config.train, self.device)
        self.world = world
        if world.size > 1 and (config.train.executor not in ("auto", "eager") or self.precision == "fp16"):
            raise ConfigError("train", "executor, precision", 'several processes run "eager" in "fp32" or "bf16"')
        if self.device.type == "cpu":
            keep_pages()
        else:
            torch.backends.cudnn.benchmark = not config.train.deterministic  # shapes do not change
        be_deterministic(config.train.deterministic)
        self.epoch, self.steps = 0, 0
        self.crew: DecodeCrew | None = None
        self._feeds: list[Feed] = []
        self.selection = Selection(config.select)

    def go(self, state: dict[str, Any] | None) -> dict[str, Any]:
        """From the images to result.json."""
        with self.clock.spend("decode"):
            decoder = self.open_decoder()  # DALI's import is part of what decoding costs
        try:
            train, val = self.decode(decoder)
            if self.mode == "resident":
                decoder.close()
            with self.clock.spend("compile"):
                self.build(train)
            if state is not None:
                self._take_up(state)
            with closing(History(self.out / METRICS_NAME, self.epoch)) as history:
                for line in history.lines:
                    self.selection.count(line)
                self._train(train, val, history)
                rate = history.images_per_s()
            return self._finish(train, val, rate)
        finally:
            self.close()
            decoder.close()

    # --- before the first step

    def open_decoder(self) -> Decoder:
        """The run's decoder for its device."""
        data = self.config.data
        return decoders.open_decoder(data.decoder, data.size, data.fit, data.threads, self.device.type)

    def decode(self, decoder: Decoder) -> tuple[Feed, Feed]:
        """Training and validation part, resident or streaming; pixel statistics come from the training part."""
        self.decoder_name = f"{decoder.name} ({decoder.device})"
        parts = (("train", self.split.train), ("val", self.split.val))
        total = sum(len(source) for _, source in parts)
        need = (total + len(self.split.test)) * decoder.size**2 * 3
        self.mode = choose_mode(self.config.data.mode, need, self.device, self.world)
        moments, before = Moments(), 0
        feeds: list[Feed] = []
        with self.clock.spend("decode"):
            if self.mode == "stream":  # now, while there is no net that forking would copy
                every = (self.split.train, self.split.val, self.split.test)
                most = max(min(self.config.train.batch, len(self.split.train)), self._test_batch())
                self.crew = open_crew(every, decoder, most, self.config.data.workers)
            for part, source in parts:
                feeds.append(self._feed(part, source, decoder, moments if part == "train" else None, before, total))
                before += len(source)
        self.mean, self.std = moments.mean_and_std()
        self._feeds = feeds
        return feeds[0], feeds[1]

    def _feed(
        self, part: str, source: ShardSet, decoder: Decoder, moments: Moments | None, before: int = 0, total: int = 0
    ) -> Feed:
        stage = "test" if part == "test" else "decode"
        tell = partial(self._tell_decoded, stage, before, total or len(source))
        if self.mode == "resident":
            decode = partial(
                decode_all, source, part, decoder, self.device, moments=moments, on_progress=tell, world=self.world
            )
            if self.shared is None:
                return decode()
            data = self.config.data
            key = PartKey(self.split.digest, part, data.size, data.fit, self.decoder_name, self.device.type)
            return self.shared.store(key, source, moments, decode)
        return scan(
            source, part, decoder, moments=moments, on_progress=tell, world=self.world,
            workers=self.config.data.workers, crew=self.crew,
        )  # fmt: skip

    def _test_batch(self) -> int:
        """Testing keeps no activations, so a GPU takes larger batches; a CPU wants them in its cache."""
        return min(2048, 2048 * 150**2 // self.config.data.size**2) if self.device.type == "cuda" else 256

    def close(self) -> None:
        """Ends the processes that decode for its feeds."""
        for feed in self._feeds:
            feed.close()
        if self.crew is not None:
            self.crew.close()

    def build(self, train: Feed) -> None:
        """The net, its optimiser, the step and who runs it, from the seed."""
        config, size = self.config, self.config.data.size
        labels = self.split.train.labels
        torch.manual_seed(config.train.seed)
        net = build_net(config.net, len(labels), size)
        prepare(net, config, train, self.mean, self.std)
        if config.train.channels_last:
            net = net.to(memory_format=torch.channels_last)
        net = net.to(self.device)
        world = self.world.size
        if world > 1 and config.train.sync_norm:
            net = with_common_norms(net)
        batch = min(config.train.batch, len(train.samples))
        if batch % world:
            raise ConfigError(
                "train", "batch", f"{batch} cannot be cut for {world} processes; give a multiple of {world}"
            )
        test_batch = max(batch, self._test_batch())
        per_epoch = -(-len(train.samples) // batch)
        mean, std = (torch.tensor(values, dtype=torch.float32, device=self.device) for values in (self.mean, self.std))
        normalise = Normaliser(mean, std, max(batch, test_batch), size, channels_last=config.train.channels_last)
        steps = per_epoch * config.train.epochs
        shape = shape_of(config, self.split.digest, self.decoder_name, self.device.type, self.precision, batch)
        # An average begins with the net's own weights and Muon's groups know their rates: such a step is made anew.
        plain = config.average.kind == "none" and config.optim.kind != "muon"
        shared = self.shared if plain and world == 1 else None
        kept = shared.take(shape) if shared is not None else None
        if kept is not None:
            kept.step.restore({**kept.fresh, **{f"net.{name}": value for name, value in net.state_dict().items()}})
            kept.step.optimiser.retune(config.optim, steps)
            self.step, self.executor = kept.step, kept.executor
        else:
            weights = class_weights(config.optim, train, labels)
            self.step = Step(
                net,
                Optimiser(net, config.optim, steps),
                normalise,
                batch=batch // world,
                size=size,
                precision=self.precision,
                how=config.augment,
                label_smoothing=config.optim.label_smoothing,
                class_weights=None if weights is None else torch.from_numpy(weights).to(self.device),
                average=config.average,
                test_flip=config.test.flip,
                kinds=len(labels),
            )
            if world > 1:
                self.step.exchange = sum_gradients
            self.executor = open_executor(config.train.executor if world == 1 else "eager", self.step)
            if shared is not None:
                shared.keep(shape, self.step, self.executor)
        self.net = self.step.judged
        self.test_images = torch.empty((test_batch, size, size, 3), dtype=torch.uint8, device=self.device)
        self.test_labels = torch.empty(test_batch, dtype=torch.int64, device=self.device)
        self.selection.hold(self.net.state_dict())

    def _take_up(self, state: dict[str, Any]) -> None:
        """Goes on after the last kept epoch."""
        self.step.restore(state["tensors"])
        self.selection.take_up(state)
        self.epoch, self.steps = state["epoch"], state["steps"]

    # --- epochs

    def _train(self, train: Feed, val: Feed, history: History) -> None:
        config = self.config
        count, batch = len(train.samples), len(self.step.images)
        if self._over():
            return
        self._tell("compile", 0, 1, now=True)
        self.clock.add("compile", self.executor.prepare(sorted({batch, count % batch or batch}, reverse=True)))
        kept = time.monotonic()
        while not self._over():
            epoch = self.epoch + 1
            lr = self.step.optimiser.rate(self.steps)
            began = time.monotonic()
            with self.clock.spend("train"):
                trained, loss, right = self._train_epoch(train, epoch)
            seconds = time.monotonic() - began
            if not np.isfinite(loss):
                raise LossNotFinite(epoch, config.optim.lr)
            with self.clock.spend("validate"):
                self._tell("validate", 0, len(val.samples))
                by_area = self.config.select.metric == "val_auroc"
                measured = judge(*self._answers(val), val, self.split.train.labels, full=by_area)[0]
                if measured.loss is None or not np.isfinite(measured.loss):
                    raise LossNotFinite(epoch, config.optim.lr)
                self.epoch = epoch
                self.selection.consider(epoch, measured, self.net.state_dict(), self.clock.split())
            line = {
                "epoch": epoch,
                "lr": lr,
                "train_loss": loss / trained,
                "train_accuracy": right / trained,
                "val_loss": measured.loss,
                "val_accuracy": measured.accuracy,
                "val_single_class": measured.single_class,
                "images": trained,
                "seconds": round(seconds, 4),
                "images_per_s": round(trained / seconds, 1),
            }
            history.add(line)
            self._line = line
            self.selection.count(line)
            self._tell("train", trained, trained, now=True)
            if self.on_epoch is not None and not self._over() and (reason := self.on_epoch(line)):
                raise RunStopped(epoch, reason)
            if time.monotonic() - kept >= config.train.checkpoint_s or self._over():
                with self.clock.spend("save"):
                    history.sync()
                    self._keep()
                kept = time.monotonic()

    def _over(self) -> bool:
        return self.epoch >= self.config.train.epochs or self.selection.over()

    def _train_epoch(self, train: Feed, epoch: int) -> tuple[int, float, int]:
        """Trains on an epoch's samples; gives how many, the sum of their losses, and how many were right."""
        seed = self.config.train.seed
        torch.manual_seed(_seed_of(seed, epoch) + self.world.rank)
        order = epoch_order(train, self.config.train.sampling, seed, epoch)
        step, done = self.step, 0
        step.start_epoch()
        world, batch = self.world, len(step.images) * self.world.size
        mine = order if world.size == 1 else share(order, batch, world)
        doubled = (
            world.rank > 0 and 0 < len(order) % batch < world.size
        )  # a last batch that all ranks have, see `share`
        for part in train.batches(mine, step.images, step.labels):
            sums = (step.loss_sum.clone(), step.correct.clone()) if doubled and done + len(part) == len(mine) else None
            step.before(self.steps, part, epoch, seed)
            self.executor.run(len(part))
            self.steps += 1
            step.after(self.steps)
            done += len(part)
            if sums is not None:
                step.loss_sum.copy_(sums[0])
                step.correct.copy_(sums[1])
            self._tell("train", done, len(mine))
        if world.size > 1:
            synchronise(step.net, step.loss_sum, step.correct)
            done = len(order)
        return done, float(step.loss_sum), int(step.correct)  # the epoch's one wait for the device

    def _answers(self, feed: Feed) -> tuple[NDArray[np.int64], torch.Tensor]:
        kinds = len(self.split.train.labels)
        return answers(self.step, feed, kinds, self.test_images, self.test_labels, self.world)

    def _keep(self) -> None:
        if self.world.rank:
            return
        save_last(
            self.out / LAST_NAME,
            {
                "config_hash": config_hash(self.config),
                "data_digest": self.split.digest,
                "epoch": self.epoch,
                "steps": self.steps,
                "tensors": self.step.tensors(),
                **self.selection.state(),
                "clock": self.clock.split(),
            },
        )

    # --- after the last epoch

    def _finish(self, train: Feed, val: Feed, rate: float | None) -> dict[str, Any]:
        config, labels, best = self.config, self.split.train.labels, self.selection.best
        digest, hashed = self.split.digest, config_hash(config)
        with self.clock.spend("save"):
            card = ModelCard(
                labels, config.data.size, config.data.fit, tuple(self.mean), tuple(self.std), config.net,
                config.test.flip, config.name, hashed, digest, best["epoch"],
            )  # fmt: skip
            save_model(self.out / BEST_NAME, self.selection.weights, card)
        with self.clock.spend("test"):
            self.net.load_state_dict(self.selection.weights)
            with closing(self.open_decoder()) as decoder:
                test = self._feed("test", self.split.test, decoder, None)
                samples, logits = self._answers(test)
            measured, probabilities = judge(samples, logits, test, labels, full=True)
            write_test(self.out / TEST_NAME, self.split.test, samples, probabilities, labels)
        with self.clock.spend("ceiling"):
            # Alone: ranks that measure by the clock would wait for each other for ever.
            bare = None if self.world.size > 1 else bare_rate(self.executor, min(2.0, 0.05 * self.clock.parts["train"]))
        time_s, residual = seconds_of(split := self.clock.split())
        to_best, to_best_residual = seconds_of(best["clock"])
        result = {
            "run": config.name,
            "epochs": self.epoch,
            "best_epoch": best["epoch"],
            "min_loss": best["loss"],
            "stopped": self.selection.stopped or None,
            "val": best["val"],
            "test": measured.to_json(),
            "single_class": measured.single_class,
            "processes": self.world.size,
            "views": 2 if config.test.flip else 1,
            "time_to_best_s": round(best["clock"]["total"], 4),
            "time_to_best_parts_s": {**to_best, "validate": round(to_best["validate"] + to_best_residual, 4)},
            "total_s": round(split["total"], 4),
            "time_s": time_s,
            "residual_s": residual,
            "images_per_s": rate,
            "bare_images_per_s": bare,
            "device": describe(self.device),
            "precision": self.precision,
            "executor": self.executor.name,
            "decoder": self.decoder_name,
            "mode": self.mode,
            "parameters": parameters_of(self.net),
            "labels": list(labels),
            "samples": {"train": len(train.samples), "val": len(val.samples), "test": len(samples)},
            "bad_samples": [sample.to_json() for feed in (train, val, test) for sample in feed.bad],
            "config": config.model_dump(mode="json"),
            "config_hash": hashed,
            "data_digest": digest,
        }
        write_result(self.out / RESULT_NAME, result)
        return result

    # --- progress

    def _tell_decoded(self, stage: str, before: int, total: int, done: int, _: int) -> None:
        self._tell(stage, before + done, total, now=before + done == total)

    def _tell(self, stage: str, done: int, total: int, *, now: bool = False) -> None:
        """Tells ten times a second at most: a step may take less than the telling."""
        if self.on_progress is None:
            return
        at = time.monotonic()
        if not now and at - self._told < 0.1:
            return
        self._told = at
        line = getattr(self, "_line", None) or {}
        self.on_progress(
            Progress(
                stage,
                done,
                total,
                self.epoch + (stage in ("train", "validate") and done < total),
                self.config.train.epochs,
                line.get("train_loss"),
                line.get("val_loss"),
                line.get("val_accuracy"),
                self.selection.best["epoch"],
                line.get("images_per_s"),
            )
        )


def _seed_of(seed: int, epoch: int) -> int:
    """A generator seed for an epoch; neighbouring runs and epochs get unrelated ones."""
    return int(np.random.SeedSequence((seed, epoch, 0xBA55)).generate_state(1, np.uint64)[0] >> 1)
