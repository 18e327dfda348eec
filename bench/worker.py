"""One contender in a process of its own: its start, its memory and its workers are its own too.

Run by `bench.loaders`; prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from bench.contenders import CONTENDERS, Job
from bench.process import cost

__all__ = ["measure"]


def measure(name: str, job: Job, epochs: int) -> dict[str, Any]:
    """Runs `epochs` epochs of a contender.

    Returns:
        `import_s` of torch; `first_batch_s` from then to the first batch; `epochs`, seconds of each; `images` an epoch;
        `cpu_s_per_1000` images after the first epoch; `peak_mib` of the process and its workers; `means`: the sorted
        mean levels of all images in the first epoch, to see that all decode the same pictures.
    """
    begun = time.perf_counter()
    import torch

    torch.set_num_threads(job.workers)
    imported = time.perf_counter()
    epoch_of = CONTENDERS[name].open(job)
    first = None
    seconds, counts, means = [], [], []
    after_first = cost()
    for number in range(epochs):
        start = time.perf_counter()
        count = 0
        for images, labels in epoch_of(number):
            if first is None:
                first = time.perf_counter() - imported
            count += len(labels)
            if number == 0:
                means.append(images.float().mean(dim=(1, 2, 3)))
        seconds.append(time.perf_counter() - start)
        counts.append(count)
        if number == 0:
            after_first = cost()
    end = cost()
    return {
        "import_s": imported - begun,
        "first_batch_s": first,
        "epochs": seconds,
        "images": counts,
        "cpu_s_per_1000": (end.cpu_s - after_first.cpu_s) / max(sum(counts[1:]), 1) * 1000,
        "peak_mib": end.peak_mib,
        "means": sorted(torch.cat(means).tolist()),
    }


def _main() -> None:
    wish = json.loads(sys.argv[1])
    job = Job(**{**wish["job"], "shards": Path(wish["job"]["shards"]), "folders": Path(wish["job"]["folders"])})
    sys.stdout.write("\n" + json.dumps(measure(wish["name"], job, wish["epochs"])) + "\n")


if __name__ == "__main__":
    _main()
