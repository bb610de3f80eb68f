"""A source of tools, by its kind."""

from __future__ import annotations

from benchmark.worlds.own.sources import Source
from benchmark.worlds.own.toolsets.toolset import Place, Toolset


def source_to_toolset(source: Source, place: Place) -> Toolset:
    """The toolset of an entry of `tools:`, not opened yet: nothing has started.

    Raises:
        UserError: what it names is not there or cannot be read, a variable is not set, or the extra `tools` is missing.
    """
    raise NotImplementedError
