"""The front door: the command line over the rooms. It parses, calls a room, and draws progress."""

__version__ = "0.1.0"
