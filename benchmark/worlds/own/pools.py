"""The values of pools that come from read-only calls of a folder's tools; `tasks make` asks for them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping

from pydantic import JsonValue

from benchmark.worlds.own.families import Pool
from benchmark.worlds.own.kind import OwnKind
from benchmark.worlds.own.state import point_all
from benchmark.worlds.own.toolsets.toolset import ServersFault
from benchmark.worlds.own.world import open_toolsets
from core.errors import UserError, nearest


def ask_pools(kind: OwnKind, pools: Mapping[str, Pool]) -> dict[str, list[JsonValue]]:
    """The values that pools have from read-only calls, in one start of the tools.

    Raises:
        UserError: a call that does not work, changes something, or gives nothing at its pointer.
    """
    where = kind.folder.path / "families.yaml"
    toolsets, scratch, _ = open_toolsets(kind.folder, 0, None)
    try:
        for toolset in toolsets:
            toolset.reset()
        values: dict[str, list[JsonValue]] = {}
        for name, pool in pools.items():
            assert pool.call is not None
            if pool.call.name not in kind.origins:
                told = nearest(pool.call.name, kind.origins)
                raise UserError(f"{where}: pool {name!r}: tool {pool.call.name!r} is unknown.{told}")
            if not kind.is_read_only(pool.call.name):
                raise UserError(
                    f"{where}: pool {name!r}: {pool.call.name} may change something; a pool needs a read-only call"
                )
            place, own = kind.origins[pool.call.name]
            result = toolsets[place].call(own, pool.call.arguments)
            found = [] if result.error is not None else point_all(result.output, pool.pointer)
            if not found:
                raise UserError(
                    f"{where}: pool {name!r}: {result.error or f'the result holds nothing at {pool.pointer}'}"
                )
            values[name] = [
                json.loads(text) for text in dict.fromkeys(json.dumps(each, sort_keys=True) for each in found)
            ]
        return values
    except ServersFault as fault:
        raise UserError(f"{where}: {fault.reason}: {fault.text}") from None
    finally:
        for toolset in toolsets:
            toolset.close()
        shutil.rmtree(scratch, ignore_errors=True)
