"""img2dataset, as its README shows it. Runs under another Python: ADDRESSES.txt OUT (default|as-is)."""

# mypy: ignore-errors
# its imports are not ours

import sys

from img2dataset import download

if __name__ == "__main__":
    addresses, out, mode = sys.argv[1:]
    download(
        url_list=addresses,
        input_format="txt",
        output_folder=out,
        output_format="webdataset",
        processes_count=2,
        thread_count=64,
        number_sample_per_shard=1000,  # so that both processes have work
        disable_all_reencoding=mode == "as-is",
        enable_wandb=False,
    )
