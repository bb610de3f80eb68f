"""Where a folder's tools come from: the entries of `tools:` in world.yaml, as strict models. Reading them starts nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, JsonValue, Tag, model_validator

from core.errors import nearest

PLACEHOLDERS = ("state", "port", "python", "slot")
"""What `{...}` may stand for in commands, environments and addresses of world.yaml."""

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def _text_as_meant(value: Any) -> Any:
    """`{python}` in YAML without quotes is a mapping of one key without a value: the text was meant."""
    if isinstance(value, dict) and len(value) == 1:
        ((key, inner),) = value.items()
        if inner is None and isinstance(key, str):
            return "{" + key + "}"
    return value


def _known_placeholders(value: str) -> str:
    for name in _PLACEHOLDER.findall(value):
        if name not in PLACEHOLDERS:
            known = ", ".join("{" + each + "}" for each in PLACEHOLDERS)
            raise ValueError(f"{{{name}}} is unknown, expected {known}.{nearest(name, PLACEHOLDERS)}")
    return value


def _filled_in(value: Any) -> Any:
    meant = _text_as_meant(value)
    return _known_placeholders(meant) if isinstance(meant, str) else meant


def _path_inside(value: str) -> str:
    if not value or value.startswith(("/", "~")) or ".." in PurePosixPath(value).parts or "\0" in value:
        raise ValueError("expected a path inside the folder, without ..")
    return value


Text = Annotated[str, BeforeValidator(_filled_in), Field(strict=True)]
"""A text in which {state}, {port}, {python} and {slot} may stand."""


def _argv(value: Any) -> Any:
    if isinstance(value, str):
        raise ValueError("a command is a list of words, as [{python}, server.py]: no shell reads it")
    return value


Command = Annotated[list[Text], BeforeValidator(_argv), Field(min_length=1)]
"""A program and its arguments, started without a shell."""
PathInside = Annotated[str, BeforeValidator(lambda value: _path_inside(value) if isinstance(value, str) else value)]
"""A path inside the folder."""


def _working_directory(value: Any) -> Any:
    meant = _text_as_meant(value)
    return meant if meant == "{state}" or not isinstance(meant, str) else _path_inside(meant)


WorkingDirectory = Annotated[str, BeforeValidator(_working_directory)]
"""A path inside the folder, or {state}."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class FromEnvironment(_Strict):
    """A value that only the environment of whoever runs it knows: a secret."""

    env: str
    """Name of the variable."""


def _environment(value: Any) -> Any:
    """A list of names is short for each name with its own value; a name with a value may stand in it, too."""
    if not isinstance(value, list):
        return value
    named: dict[str, Any] = {}
    for entry in value:
        if isinstance(entry, dict) and len(entry) == 1:
            named.update(entry)
        elif isinstance(entry, str) and _VARIABLE.match(entry):
            named[entry] = {"env": entry}
        else:
            raise ValueError(f"expected names of variables, or a mapping of names to values, got {entry!r}")
    return named


def _environment_value(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        raise ValueError("a variable's value is text: put it in quotes")
    return _filled_in(value)


Environment = Annotated[
    dict[
        Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")],
        Annotated[FromEnvironment | str, BeforeValidator(_environment_value)],
    ],
    BeforeValidator(_environment),
]
"""Variables of a command's environment: texts, or `{env: NAME}` for what is secret. A list of names passes these on."""
Headers = dict[str, FromEnvironment | Text]
"""Headers of each request: `{NAME: {env: VARIABLE}}` for what is secret."""


class McpServer(_Strict):
    """One MCP server: a command that speaks over its standard input and output, or an address."""

    command: Command | None = None
    """Program and arguments, started for each episode."""
    cwd: WorkingDirectory | None = None
    """Its working directory inside the folder. Else the episode's copy of the state, or the folder where there is none."""
    env: Environment = Field(default_factory=dict)
    """What it gets beside PATH, HOME, LANG and TMPDIR."""
    url: Text | None = None
    """Address of a server that speaks streamable HTTP, or is started by `command` and listens at {port}."""
    headers: Headers = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_way(self) -> McpServer:
        if self.command is None and self.url is None:
            raise ValueError("mcp: expected command (a server over stdio) or url (one over HTTP)")
        if self.command is None and (self.cwd is not None or self.env):
            raise ValueError("mcp: cwd and env belong to a command, and there is only a url")
        if self.url is None and self.headers:
            raise ValueError("mcp: headers belong to a url, and there is only a command")
        return self


class McpSource(_Strict):
    """Tools of an MCP server."""

    mcp: McpServer


class McpConfigSource(_Strict):
    """Tools of a server that an mcp.json names, as editors and agents keep them."""

    mcp_config: PathInside
    """Path of the file, inside the folder."""
    server: str
    """Name of the server in it."""


class Operations(_Strict):
    """Which operations of an OpenAPI document become tools; `*` stands for any characters."""

    allow: list[str] = Field(default_factory=lambda: ["*"])
    deny: list[str] = Field(default_factory=list)


class OpenApi(_Strict):
    """An HTTP interface that an OpenAPI document (3.0 or 3.1, JSON or YAML) describes."""

    file: PathInside
    base_url: Text | None = None
    """Where it answers; the document's own `servers:` is never used. By default http://127.0.0.1:{port}."""
    command: Command | None = None
    """Starts the server for each episode, at {port}."""
    cwd: WorkingDirectory | None = None
    env: Environment = Field(default_factory=dict)
    headers: Headers = Field(default_factory=dict)
    operations: Operations = Field(default_factory=Operations)

    @model_validator(mode="after")
    def _answers_somewhere(self) -> OpenApi:
        if self.command is None and self.base_url is None:
            raise ValueError("openapi: expected base_url (a server that runs) or command (one to start at {port})")
        if self.command is None and (self.cwd is not None or self.env):
            raise ValueError("openapi: cwd and env belong to a command, and there is none")
        return self


class OpenApiSource(_Strict):
    """Tools that are operations of an HTTP interface."""

    openapi: OpenApi


class PythonSource(_Strict):
    """Tools that are the typed public methods of a class."""

    python: str = Field(pattern=r"^[^:]+\.py:[A-Za-z_][A-Za-z0-9_]*$")
    """`FILE.py:CLASS`, the file inside the folder."""

    @property
    def file(self) -> str:
        return self.python.rpartition(":")[0]

    @property
    def class_name(self) -> str:
        return self.python.rpartition(":")[2]

    @model_validator(mode="after")
    def _inside(self) -> PythonSource:
        _path_inside(self.file)
        return self


class WorldSource(_Strict):
    """Tools of one of our five worlds. The tools of `files` work on the episode's state, where there is one."""

    world: str
    task: str | None = None
    """Id of the task as which that world begins; by default the first of seed 0."""


class LookupSource(_Strict):
    """Results that were recorded: `{tool, arguments, result | error}` a line."""

    lookup: PathInside


_KINDS = ("mcp", "mcp_config", "openapi", "python", "world", "lookup")


def _kind(value: Any) -> str | None:
    keys = value if isinstance(value, Mapping) else type(value).model_fields if isinstance(value, BaseModel) else ()
    found = [kind for kind in _KINDS if kind in keys]
    return f"[{found[0]}]" if len(found) == 1 else None


Source = Annotated[
    Annotated[McpSource, Tag("[mcp]")]
    | Annotated[McpConfigSource, Tag("[mcp_config]")]
    | Annotated[OpenApiSource, Tag("[openapi]")]
    | Annotated[PythonSource, Tag("[python]")]
    | Annotated[WorldSource, Tag("[world]")]
    | Annotated[LookupSource, Tag("[lookup]")],
    Discriminator(
        _kind,
        custom_error_type="source_kind",
        custom_error_message=f"a source of tools has exactly one of {', '.join(_KINDS)}",
    ),
]
"""One entry of `tools:` in world.yaml."""


class NamedCall(_Strict):
    """A call, as it is written everywhere in a folder."""

    name: str
    arguments: dict[str, JsonValue] = Field(default_factory=dict)


class Reset(_Strict):
    """How a server that several episodes share is put back to its start."""

    command: Command | None = None
    """A program that does it, and ends."""
    call: NamedCall | None = None
    """A call of one of the tools; the model does not see that tool."""
    post: Text | None = None
    """An address that a POST goes to, or a path below the source's own."""

    @model_validator(mode="after")
    def _one_way(self) -> Reset:
        if sum(way is not None for way in (self.command, self.call, self.post)) != 1:
            raise ValueError("reset: expected exactly one of command, call, post")
        return self
