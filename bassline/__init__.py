"""The front door: the command line over the rooms. It parses, calls a room, and draws progress."""

import time

__all__ = ["STARTED", "__version__"]

__version__ = "0.1.0"

STARTED = time.monotonic()
"""Time to best counts from here: this is the first line of the project that a command runs."""
