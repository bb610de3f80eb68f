"""How an MCP server is reached: from world.yaml, or from an mcp.json as editors and agents keep them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmark.worlds.own.sources import McpConfigSource, McpServer
from benchmark.worlds.own.toolsets.servers import Surroundings
from core.errors import UserError, nearest
from core.json_lines import json_to_object

_VARIABLE = re.compile(r"\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


@dataclass(frozen=True)
class McpConnection:
    """A server with everything filled in: started by a command, reached at a url, or both."""

    command: list[str] | None
    cwd: str | None
    environment: dict[str, str] = field(repr=False)
    url: str | None
    headers: dict[str, str] = field(repr=False)


class McpJsonServer(BaseModel):
    """One server of an mcp.json. Keys that only editors know are passed over."""

    model_config = ConfigDict(extra="ignore")

    command: str | None = None
    args: list[str] = Field(default_factory=list)
    env: dict[str, str] = Field(default_factory=dict)
    cwd: str | None = None
    url: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)


def server_to_connection(server: McpServer, around: Surroundings) -> McpConnection:
    """A server of world.yaml. Values from the environment are secrets.

    Raises:
        UserError: a variable that is not set.
    """
    return McpConnection(
        command=server.command,
        cwd=server.cwd,
        environment=around.read(server.env),
        url=None if server.url is None else around.fill(server.url),
        headers=around.read(server.headers),
    )


def read_mcp_json(text: str, name: str) -> dict[str, McpJsonServer]:
    """All servers of an mcp.json, by name. `name` is the file's, for errors.

    Raises:
        UserError: it is none.
    """
    try:
        value = json_to_object(text)
    except ValueError as error:
        raise UserError(f"{name}: not JSON: {error}") from None
    found: Any = value.get("mcpServers", value.get("servers")) if isinstance(value, dict) else None
    if not isinstance(found, dict):
        raise UserError(f"{name}: expected an object with mcpServers: {{NAME: {{command, args, env}} or {{url}}}}")
    servers = {}
    for key, entry in found.items():
        try:
            servers[key] = McpJsonServer.model_validate(entry)
        except ValidationError as error:
            # Only places: values may be secrets.
            where = ".".join(map(str, error.errors()[0]["loc"])) or "it"
            raise UserError(f"{name}: server {key!r}: {where} is not of the expected type") from None
    return servers


def config_to_connection(source: McpConfigSource, around: Surroundings) -> McpConnection:
    """A server of an mcp.json. All values of its `env` and `headers` are secrets.

    Raises:
        UserError: the file is none, names no such server, or wants a variable that is not set.
    """
    path = around.place.folder / source.mcp_config
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', 'not UTF-8')}") from None
    servers = read_mcp_json(text, str(path))
    if source.server not in servers:
        raise UserError(
            f"{path}: no server {source.server!r}, there are: {', '.join(servers)}.{nearest(source.server, servers)}"
        )
    server = servers[source.server]
    if (server.command is None) == (server.url is None):
        raise UserError(f"{path}: server {source.server!r}: expected either command or url")

    def expand(text: str) -> str:
        return _VARIABLE.sub(lambda found: _variable(found, str(path), around), around.fill(text))

    for key, value in (server.env | server.headers).items():
        if "{state}" not in value:
            around.secrets.add(key, expand(value))
    return McpConnection(
        command=None if server.command is None else [expand(word) for word in (server.command, *server.args)],
        cwd=None if server.cwd is None else expand(server.cwd),
        environment={key: expand(value) for key, value in server.env.items()},
        url=None if server.url is None else expand(server.url),
        headers={key: expand(value) for key, value in server.headers.items()},
    )


def _variable(found: re.Match[str], path: str, around: Surroundings) -> str:
    name, default = found.groups()
    value = os.environ.get(name, default)
    if value is None:
        raise UserError(f"{path}: variable {name!r} is not set")
    if name in os.environ:
        around.secrets.add(name, value)
    return value
