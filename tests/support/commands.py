"""Commands of the project in this process, as a shell would start them."""

from __future__ import annotations

from collections.abc import Callable

Run = Callable[..., tuple[int, str, str]]
"""Words of a command to exit code, standard output and standard error: the fixture `run`."""
