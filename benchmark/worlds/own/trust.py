"""Nothing of a user's folder starts until somebody who has read what it would start says so.

What is trusted is a hash of all that decides what runs: the sources of world.yaml, and every file of the folder that could
be code. Another hash is asked for again. Grants stand in a file of the user's, never in the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmark.worlds.own.sources import (
    FromEnvironment,
    LookupSource,
    McpConfigSource,
    McpSource,
    OpenApiSource,
    PythonSource,
    Reset,
    Source,
    WorldSource,
)
from benchmark.worlds.own.toolsets.mcp_config import read_mcp_json
from core.errors import UserError, printable
from core.files import file_sha256, read_json, write_json

CHECK = "check.py"

_CODE = frozenset((
    *(".py", ".pyw", ".pyi", ".pth", ".js", ".mjs", ".cjs", ".ts", ".mts", ".jsx", ".tsx", ".sh", ".bash", ".zsh", ".fish"),
    *(".rb", ".pl", ".php", ".lua", ".ps1", ".bat", ".cmd", ".exe", ".so", ".dylib", ".dll", ".pyd", ".jar", ".class"),
    *(".wasm", ".node", ".r", ".go", ".rs", ".java", ".kt", ".swift", ".c", ".cc", ".cpp", ".toml", ".cfg", ".ini", ".env"),
    *(".sql", ".dockerfile"),
))  # fmt: skip
"""Endings of files that a server may run or be steered by."""
_PASSED_OVER = frozenset(("__pycache__", ".git"))
_SHOWN_FILES = 30


@dataclass(frozen=True)
class Startable:
    """What a folder would start."""

    folder: Path
    commands: tuple[tuple[str, ...], ...]
    """Programs with their arguments, as world.yaml and mcp.json write them."""
    files: tuple[str, ...]
    """Files of the folder that are code, or are named by a source."""
    hosts: tuple[str, ...]
    variables: tuple[str, ...]
    """Names of variables that are passed on, or set; never their values."""
    sha256: str

    @property
    def is_nothing(self) -> bool:
        """Whether it starts nothing and asks no host."""
        return not (self.commands or self.hosts)

    def describe(self) -> str:
        """All of it for a person to read, without anything that could drive a terminal."""
        lines = [f"command: {json.dumps(command, ensure_ascii=False)}" for command in self.commands]
        lines += [f"host: {host}" for host in self.hosts]
        lines += [f"variable: {name}" for name in self.variables]
        lines += [f"file: {name}" for name in self.files[:_SHOWN_FILES]]
        if len(self.files) > _SHOWN_FILES:
            lines.append(f"and {len(self.files) - _SHOWN_FILES} more files")
        return "\n".join(f"  {printable(line)}" for line in [*lines, f"sha256: {self.sha256}"])


def what_starts(
    folder: Path,
    sources: Sequence[Source],
    *,
    reset: Reset | None = None,
    hosts: Sequence[str] = (),
    state: str | None = None,
) -> Startable:
    """What a folder with these sources would start. Starts nothing, and runs nothing of it.

    `hosts` are those that world.yaml lists;

    Raises:
        UserError: a file that a source names is not there or cannot be read.
    """
    parts = [_source_parts(folder, source) for source in sources]
    commands = [command for part in parts for command in part.commands]
    asked = [host for part in parts for host in part.hosts]
    if reset is not None and reset.command is not None:
        commands.append(tuple(reset.command))
    if (folder / CHECK).is_file():
        commands.append(("{python}", CHECK))
    named = {name for part in parts for name in part.files}
    named |= {word for command in commands for word in command if _is_file_inside(folder, word)}
    files = sorted({*named, *_code_files(folder)})
    digest = hashlib.sha256()
    written = [source.model_dump(mode="json") for source in sources]
    whole = {"sources": written, "reset": reset.model_dump(mode="json") if reset else None, "hosts": sorted(hosts)}
    digest.update(json.dumps(whole, sort_keys=True).encode())
    for name in files:
        try:
            digest.update(f"\n{name}\0{file_sha256(folder / name)}".encode("utf-8", "surrogateescape"))
        except OSError as error:
            raise UserError(f"{folder / name}: cannot be read: {error.strerror}") from None
    variables = sorted({name for part in parts for name in part.variables})
    return Startable(
        folder=folder,
        commands=tuple(dict.fromkeys(commands)),
        files=tuple(files),
        hosts=tuple(sorted({*asked, *hosts})),
        variables=tuple(variables),
        sha256=digest.hexdigest(),
    )


def require_trust(startable: Startable, granted: bool) -> None:
    """Go on only where this very state of a folder is trusted; `granted` (`--trust`) trusts it from now on.

    Raises:
        UserError: it is not trusted; the text says what would start.
    """
    if startable.is_nothing:
        return
    key = str(startable.folder.resolve())
    known = _grants().get(key)
    if known == startable.sha256:
        return
    if granted:
        trust(startable)
        return
    why = "has changed since it was trusted" if known else "is not trusted yet"
    raise UserError(
        f"{startable.folder}: this folder {why}. Nothing of it has been started. It would start or ask:\n"
        f"{startable.describe()}\nRead these files, and give --trust to let it."
    )


def trust(startable: Startable) -> None:
    """Trust this state of a folder from now on, as `init` does with what it wrote."""
    path = _grants_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_json(path, {**_grants(), str(startable.folder.resolve()): startable.sha256})


def _grants_path() -> Path:
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "tooltune" / "trusted-folders.json"


def _grants() -> dict[str, str]:
    path = _grants_path()
    return read_json(path) if path.is_file() else {}


@dataclass(frozen=True)
class _Parts:
    commands: tuple[tuple[str, ...], ...] = ()
    files: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()


def _source_parts(folder: Path, source: Source) -> _Parts:
    if isinstance(source, McpSource):
        server = source.mcp
        return _Parts(
            commands=(tuple(server.command),) if server.command else (),
            hosts=_host(server.url),
            variables=_variables(server.env) + _variables(server.headers),
        )
    if isinstance(source, McpConfigSource):
        path = folder / source.mcp_config
        try:
            servers = read_mcp_json(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', 'not UTF-8')}") from None
        named = servers.get(source.server)
        if named is None:
            raise UserError(f"{path}: no server {source.server!r}, there are: {', '.join(servers)}")
        return _Parts(
            commands=((named.command, *named.args),) if named.command else (),
            files=(source.mcp_config,),
            hosts=_host(named.url),
            variables=(*named.env, *named.headers),
        )
    if isinstance(source, OpenApiSource):
        api = source.openapi
        return _Parts(
            commands=(tuple(api.command),) if api.command else (),
            files=(api.file,),
            hosts=_host(api.base_url),
            variables=_variables(api.env) + _variables(api.headers),
        )
    if isinstance(source, PythonSource):
        return _Parts(commands=(("{python}", source.python),), files=(source.file,))
    assert isinstance(source, WorldSource | LookupSource)
    return _Parts()


def _variables(named: dict[str, FromEnvironment | str]) -> tuple[str, ...]:
    values = [value.env for value in named.values() if isinstance(value, FromEnvironment)]
    return (*named, *values)


def _host(url: str | None) -> tuple[str, ...]:
    return () if url is None else (urlsplit(url.replace("{port}", "1").replace("{slot}", "0")).netloc or url,)


def _is_file_inside(folder: Path, word: str) -> bool:
    return bool(word) and not os.path.isabs(word) and "\0" not in word and (folder / word).is_file()


def _code_files(folder: Path) -> Iterator[str]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _PASSED_OVER)
        for name in names:
            path = Path(root) / name
            is_code = (
                name == "package.json" or path.suffix.lower() in _CODE or (path.is_file() and os.access(path, os.X_OK))
            )
            if is_code and path.is_file():
                yield str(path.relative_to(folder))
