"""What can go wrong, in one tree: every error carries its evidence and says the remedy.

BasslineError                  exit code 1: the work could not be done
├── ConfigError                exit code 2: a file or option is wrong; names the file, the key and what was expected
└── (each room adds its own)   ShardError, CrawlError, TrainError, BenchError
"""

from __future__ import annotations

__all__ = ["BasslineError", "ConfigError", "brief"]


class BasslineError(Exception):
    """Base of every error a user may cause or meet; `str(error)` is one line: what is wrong and what to do."""

    exit_code = 1


class ConfigError(BasslineError):
    """A configuration file or an option is wrong.

    Args:
        where: the file or the option, as the user wrote it.
        key: the dotted key inside the file, or "" when the file as a whole is wrong.
        problem: what was found, what was expected and what to do.
    """

    exit_code = 2

    def __init__(self, where: str, key: str, problem: str) -> None:
        self.where, self.key, self.problem = where, key, problem
        super().__init__(f"{where}: {key}: {problem}" if key else f"{where}: {problem}")


def brief(error: Exception) -> str:
    """What is wrong with a damaged file, short: a decoding error's own text can hold the whole file."""
    if isinstance(error, UnicodeDecodeError):
        return f"no UTF-8 text: byte 0x{error.object[error.start]:02x} at {error.start:,}"
    return repr(error)[:200]
