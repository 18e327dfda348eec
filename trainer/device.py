"""What this machine trains on and how: the device, the precision, and a C library that keeps its pages."""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache
from pathlib import Path

import torch

from shards.errors import ConfigError
from trainer.config import Train

__all__ = ["be_deterministic", "choose_device", "choose_precision", "describe", "keep_pages"]

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def choose_device(train: Train) -> torch.device:
    """The device a run file names; `auto` is the GPU where there is one.

    Raises:
        ConfigError: a GPU was asked for and there is none.
    """
    there = torch.cuda.is_available()
    if train.device == "cuda" and not there:
        raise ConfigError("train.device", "cuda", 'there is no NVIDIA GPU here; "cpu" or "auto"')
    if not there or train.device == "cpu":
        return torch.device("cpu")
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))  # torchrun gives each process its own GPU
    return torch.device("cuda")


def choose_precision(train: Train, device: torch.device) -> str:
    """fp32, bf16 or fp16; `auto` is bf16 on a GPU that has it and fp32 elsewhere.

    Raises:
        ConfigError: half precision was asked for on a CPU, where it is no faster.
    """
    if device.type == "cpu":
        if train.precision in ("bf16", "fp16"):
            raise ConfigError("train.precision", train.precision, 'on a CPU only "fp32" (or "auto")')
        return "fp32"
    if train.precision != "auto":
        return train.precision
    return "bf16" if torch.cuda.is_bf16_supported() else "fp32"


def describe(device: torch.device) -> str:
    """The device in words, with the threads torch uses on a CPU."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{_cpu_name()}, {torch.get_num_threads()} threads"


def be_deterministic(wanted: bool) -> None:
    """Has torch use only kernels that give the same bits each time, or any; for the whole process.

    cuBLAS needs a workspace of a fixed size for that, which it reads from the environment when it is first used.
    """
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if wanted != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(wanted)


@cache
def keep_pages() -> bool:
    """Keeps glibc from returning big buffers to the kernel after every step; True where it took.

    Each step frees and takes anew some tens of megabytes, and the page faults cost more than the step: T5's net at 64
    pixels goes from 400 to 1,650 img/s on two shared cores. The process keeps its peak memory until it ends. It is for
    the whole process, so only `fit` asks for it.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_M_MMAP_MAX, 0)) and bool(libc.mallopt(_M_TRIM_THRESHOLD, -1))


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or f"{os.cpu_count()} cores"
