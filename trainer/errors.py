"""What can go wrong in training, each with its evidence and the remedy.

TrainError                     a run could not be done
├── SplitIncomplete            the data folder lacks a part, or a part is empty
├── LabelsDiffer               the parts of a split do not have the same labels
├── RunChanged                 the run folder holds a run of another configuration or another data set
├── RunDamaged                 a file of the run folder cannot be read
├── OutOfMemory                the run asked for more memory than there is
├── NothingDecoded             not one image of a part could be decoded
├── LossNotFinite              the training loss became NaN or infinite
├── RunStopped                 whoever watches the run ended it before its last epoch
├── BatteryBusy                another process runs this battery into the same folder
├── NotComparable              two runs were not tested on the same images
├── RankLost                   another process of the run ended
├── WorkerLost                 a process that decodes ended by itself
├── NotExportable              a net cannot be written in another format
├── ParityLost                 an exported model does not answer as the run does
├── NotExplainable             what explains a net is not there, or has nothing to work on
└── ModelUnreadable            a file is not a model of ours
"""

from __future__ import annotations

import signal
from pathlib import Path

from shards.errors import BasslineError

__all__ = [
    "BatteryBusy",
    "LabelsDiffer",
    "LossNotFinite",
    "ModelUnreadable",
    "NotComparable",
    "NotExplainable",
    "NotExportable",
    "NothingDecoded",
    "OutOfMemory",
    "ParityLost",
    "RankLost",
    "RunChanged",
    "RunDamaged",
    "RunStopped",
    "SplitIncomplete",
    "TrainError",
    "WorkerLost",
]


# What a signal mostly means here, where its own name does not say it.
_SIGNALS: dict[int, str] = {
    signal.SIGKILL: "killed: the system may have run out of memory",
    signal.SIGBUS: "a tar became shorter or could not be read",
}


def _name(number: int) -> str:
    return signal.strsignal(number) or "unknown"


class TrainError(BasslineError):
    """Base of what can go wrong in `trainer`."""


class SplitIncomplete(TrainError):
    """The data folder is not a whole split."""

    def __init__(self, folder: Path, part: str, problem: str) -> None:
        self.folder, self.part = folder, part
        super().__init__(f"{folder}: {part}/ {problem}; make a split with `bassline shards split SET --out {folder}`")


class LabelsDiffer(TrainError):
    """Two parts of a split name different labels, so their numbers do not mean the same."""

    def __init__(self, folder: Path, part: str, labels: tuple[str, ...], expected: tuple[str, ...]) -> None:
        self.folder, self.part = folder, part
        super().__init__(
            f"{folder}: {part}/ has the labels {', '.join(labels)}, train/ has {', '.join(expected)}; "
            "make all parts by one `bassline shards split`"
        )


class RunChanged(TrainError):
    """The run folder was made with another configuration or other data; resuming would mix two runs."""

    def __init__(self, folder: Path, what: str, then: str, now: str) -> None:
        self.folder, self.what = folder, what
        super().__init__(
            f"{folder}: holds a run with another {what} ({then}, now {now}); give another --out or remove the folder"
        )


class RunDamaged(TrainError):
    """A file that a run left cannot be read, so the run can neither be shown nor go on."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        first = (problem.splitlines() or [""])[0][:80]
        super().__init__(f"{path}: is damaged ({first}); remove {path.parent} to train anew, or give another --out")


class OutOfMemory(TrainError):
    """The run asked for more memory than there is."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"not enough memory ({problem.splitlines()[0][:160]}); lower train.batch, data.size or the net, "
            'or set data.mode = "stream"'
        )


class NothingDecoded(TrainError):
    """A part has no image that can be decoded."""

    def __init__(self, folder: Path, first: str) -> None:
        self.folder = folder
        super().__init__(f"{folder}: no image could be decoded, the first is {first}; run `bassline shards verify`")


class LossNotFinite(TrainError):
    """The loss ran away: weights are lost from here on."""

    def __init__(self, epoch: int, lr: float) -> None:
        self.epoch, self.lr = epoch, lr
        super().__init__(f"the training loss is not finite after epoch {epoch}; lower optim.lr (now {lr:g})")


class RunStopped(TrainError):
    """The run was ended by whoever watches its epochs; nothing was tested."""

    def __init__(self, epoch: int, reason: str) -> None:
        self.epoch, self.reason = epoch, reason
        super().__init__(f"stopped after epoch {epoch}: {reason}")


class BatteryBusy(TrainError):
    """Two processes would train the same runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(f"{folder}: another `bassline battery` runs into it; wait for it, or give another --out")


class NotComparable(TrainError):
    """Two runs were tested on different images, so their difference says nothing of the models."""

    def __init__(self, first: str, second: str, problem: str) -> None:
        super().__init__(f"{first} and {second}: {problem}; train both on one split")


class RankLost(TrainError):
    """Another process of the run ended, or cannot be reached; this one cannot go on alone."""

    def __init__(self, rank: int, size: int, problem: str) -> None:
        self.rank = rank
        super().__init__(
            f"process {rank} of {size} lost another one ({problem.splitlines()[0][:80]}); run the same command to go on"
        )


class WorkerLost(TrainError):
    """A process that decodes images for a stream was ended, by the system or by what it read.

    Args:
        folder: the set it read.
        code: as in `subprocess`: an exit status, or a signal's number below zero.
    """

    def __init__(self, folder: Path, code: int) -> None:
        self.folder, self.code = folder, code
        how = f"with code {code}" if code >= 0 else f"by signal {-code} ({_SIGNALS.get(-code) or _name(-code)})"
        super().__init__(
            f"{folder}: a process that decodes its images ended {how}; run the same command to go on, "
            'with data.workers = "threads" if it happens again'
        )


class NotExportable(TrainError):
    """The net has a part that the format does not know."""

    def __init__(self, into: str, error: Exception) -> None:
        first = " ".join(str(error).split())[:200]
        super().__init__(f"{into} cannot hold this net ({type(error).__name__}: {first}); try another kind of net")


class ParityLost(TrainError):
    """The exported model gives other labels than the run; nothing was written."""

    def __init__(self, name: str, apart: int, samples: int, keys: tuple[str, ...]) -> None:
        self.apart, self.samples, self.keys = apart, samples, keys
        shown = ", ".join(keys[:5]) + (" and more" if len(keys) > 5 else "")
        super().__init__(
            f"{name} gives another label for {apart:,} of {samples:,} test images ({shown}); nothing was written"
        )


class NotExplainable(TrainError):
    """A net or a set has nothing to explain, or what was asked for does not apply."""


class ModelUnreadable(TrainError):
    """The file is not a model written by `fit`."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        super().__init__(f"{path}: {problem}; give a run folder or the best.safetensors in it")
