"""A source of tools, by its kind."""

from __future__ import annotations

from benchmark.worlds.own.sources import McpConfigSource, McpSource, OpenApiSource, PythonSource, Source, WorldSource
from benchmark.worlds.own.toolsets.python import PythonToolset
from benchmark.worlds.own.toolsets.servers import Surroundings
from benchmark.worlds.own.toolsets.toolset import Place, Toolset
from core.errors import UserError


def source_to_toolset(source: Source, place: Place) -> Toolset:
    """The toolset of an entry of `tools:`, not opened yet: nothing has started.

    Raises:
        UserError: what it names is not there or cannot be read, a variable is not set, or the extra `tools` is missing.
    """
    around = Surroundings(place, "world.yaml: tools")
    try:
        import jsonschema  # noqa: F401, PLC0415 - whatever the kind is, its calls are checked with it

        return _toolset(source, around)
    except ImportError as error:
        raise UserError(
            f"a folder's own tools need the extra `tools`: pip install -c constraints.txt -e '.[tools]' ({error})"
        ) from None


def _toolset(source: Source, around: Surroundings) -> Toolset:
    # Each kind is imported where it is needed: the MCP SDK alone takes a second, and is an extra.
    if isinstance(source, McpSource | McpConfigSource):
        from benchmark.worlds.own.toolsets import mcp_config  # noqa: PLC0415
        from benchmark.worlds.own.toolsets.mcp import McpToolset  # noqa: PLC0415

        if isinstance(source, McpSource):
            return McpToolset(mcp_config.server_to_connection(source.mcp, around), around)
        return McpToolset(mcp_config.config_to_connection(source, around), around)
    if isinstance(source, OpenApiSource):
        from benchmark.worlds.own.toolsets.openapi import OpenApiToolset  # noqa: PLC0415

        return OpenApiToolset(source, around)
    if isinstance(source, PythonSource):
        return PythonToolset(source, around)
    if isinstance(source, WorldSource):
        from benchmark.worlds.own.toolsets.ours import OurToolset  # noqa: PLC0415

        return OurToolset(source, around.place)
    from benchmark.worlds.own.toolsets.lookup import LookupToolset  # noqa: PLC0415

    return LookupToolset(around.place.folder / source.lookup)
