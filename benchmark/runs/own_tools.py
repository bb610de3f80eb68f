"""`python -m benchmark init` and `tools`: a folder made around tools, and what a model reads of them."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from benchmark.runs.options import Trust, open_folder, startable_of
from benchmark.worlds.own.exploring import TASKS, Found, Way, example_tasks, find_out
from benchmark.worlds.own.folder import TASKS_FILE, WORLD_FILE, read_folder
from benchmark.worlds.own.kind import OwnKind, open_kind
from benchmark.worlds.own.sources import PythonSource
from benchmark.worlds.own.state import part_to_pointer
from benchmark.worlds.own.tasks import TaskRow
from benchmark.worlds.own.toolsets.toolset import ServersFault
from benchmark.worlds.own.trust import trust as trust_from_now_on
from core.errors import UserError, printable
from core.files import write_whole
from core.screen import print_table
from data.records import ToolSpec

_LONG_TOKENS = 300
"""A tool above it costs more in every prompt than most are worth."""
_ALL_TOKENS = 2000

DIR = Annotated[Path, typer.Argument(help="The folder.")]


def tools_command(
    folder: DIR,
    trust: Trust = False,
    model: Annotated[
        str | None, typer.Option(help="Folder of a model whose tokenizer counts; else 4 bytes are a token.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where the list goes as JSON, for --diff.")] = None,
    diff: Annotated[Path | None, typer.Option(help="A list of before: what changed, and which tasks need it.")] = None,
) -> None:
    """Show what a model reads of a folder's tools, what that costs, and what is wrong with them.

    Exits 1 where --diff finds a tool that tasks need and that is gone or takes other arguments.

    Example: python -m benchmark tools my-tools
    """
    kind = open_folder(folder, trust=trust, unjudged=True)
    tools = kind.task_tools
    sizes = [_tokens(tool, model) for tool in tools]
    print_table(("tool", "tokens", "changes nothing", "arguments", "description"), [
        (printable(tool.function.name), size, _told(kind, tool.function.name),
         printable(", ".join(_arguments(tool)))[:60], printable(" ".join(tool.function.description.split()))[:60])
        for tool, size in zip(tools, sizes, strict=True)
    ])  # fmt: skip
    print(f"{len(tools)} tools of {kind.name}: about {sum(sizes)} tokens of every prompt")
    for problem in _problems(kind, tools, sizes):
        print(printable(problem))
    listed = [tool.model_dump() for tool in tools]
    if out is not None:
        write_whole(out, json.dumps(listed, indent=2, ensure_ascii=False) + "\n")
        print(f"wrote {out}")
    if diff is not None and _show_changes(kind, _read_list(diff), listed):
        raise typer.Exit(1)


def _told(kind: OwnKind, name: str) -> str:
    facts = kind.facts.get(name)
    if facts is None:
        return "yes"
    return ("yes" if facts.read_only else "no") + (" (guessed)" if facts.guessed else "")


def _tokens(tool: ToolSpec, model: str | None) -> int:
    text = json.dumps(tool.model_dump(), ensure_ascii=False)
    if model is None:
        return len(text.encode()) // 4
    from transformers import AutoTokenizer  # noqa: PLC0415 - only where a model is named

    return len(_tokenizer(AutoTokenizer, model)(text)["input_ids"])


def _tokenizer(loader: Any, model: str) -> Any:
    try:
        return loader.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise UserError(f"--model {model}: no tokenizer: {str(error).splitlines()[0]}") from None


def _properties(tool: ToolSpec) -> dict[str, Any]:
    found = tool.function.parameters.get("properties")
    return found if isinstance(found, dict) else {}


def _required(tool: ToolSpec) -> list[str]:
    found = tool.function.parameters.get("required")
    return [str(name) for name in found] if isinstance(found, list) else []


def _arguments(tool: ToolSpec) -> list[str]:
    return [name if name in _required(tool) else f"{name}?" for name in _properties(tool)]


def _problems(kind: OwnKind, tools: tuple[ToolSpec, ...], sizes: list[int]) -> Iterator[str]:
    """What is wrong with tools, each with its remedy."""
    from benchmark.worlds.own.arguments import schema_problem  # noqa: PLC0415 - of the extra `tools`

    for tool, size in zip(tools, sizes, strict=True):
        name, told = tool.function.name, tool.function.description.strip()
        if not told:
            yield f"{name}: has no description, so a model has to guess what it does: write one line in the server"
        if not all(letter.isascii() and (letter.isalnum() or letter in "_-") for letter in name) or len(name) > 64:
            yield f"{name!r}: a name that templates and servers refuse: use letters, digits, _ and -, at most 64"
        if size > _LONG_TOKENS:
            yield f"{name}: costs {size} tokens of every prompt: shorten its description and schema"
        if problem := schema_problem(tool):
            yield f"{name}: its schema: {problem}: mend it in the server, or calls are not checked"
        if bare := [each for each, schema in _properties(tool).items() if not (isinstance(schema, dict) and schema)]:
            yield f"{name}: nothing is said of the argument {bare[0]}: give its type"
        if (facts := kind.facts.get(name)) and facts.guessed:
            yield f"{name}: read_only is a guess: look at it in world.yaml and remove `guessed`"
    if sum(sizes) > _ALL_TOKENS:
        yield f"all tools cost {sum(sizes)} tokens: leave some out (openapi: operations; mcp: a smaller server)"


def _read_list(path: Path) -> list[dict[str, Any]]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return [ToolSpec.model_validate(each).model_dump() for each in value]
    except OSError as error:
        raise UserError(f"--diff {path}: cannot be read: {error.strerror}") from None
    except (ValueError, TypeError) as error:
        raise UserError(
            f"--diff {path}: no list of tools, as `tools DIR --out FILE` writes it: {str(error)[:100]}"
        ) from None


def _show_changes(kind: OwnKind, before: list[dict[str, Any]], now: list[dict[str, Any]]) -> bool:
    """Print what has changed; whether tasks are concerned."""
    old, new = ({each["function"]["name"]: each["function"] for each in side} for side in (before, now))
    concerned: set[str] = set()
    for name in dict.fromkeys([*old, *new]):
        if name not in new:
            change = "is gone"
        elif name not in old:
            change = "is new"
        elif old[name]["parameters"] != new[name]["parameters"]:
            change = "takes other arguments"
        elif old[name]["description"] != new[name]["description"]:
            change = "is described otherwise"
        else:
            continue
        uses = [row.id for row in kind.folder.rows if name in [call.name for call in (*row.setup, *row.solution)]]
        if change in ("is gone", "takes other arguments"):
            concerned |= set(uses)
        print(printable(f"{name} {change}" + (f"; {len(uses)} tasks use it, such as {uses[0]}" if uses else "")))
    held = len(kind.folder.rows) - len(concerned)
    print(f"{held} of {len(kind.folder.rows)} tasks need no tool that is gone or takes other arguments")
    return bool(concerned)


# ---- init ----


def init_command(
    folder: DIR,
    mcp: Annotated[str | None, typer.Option(help='Command of an MCP server, as "python server.py".')] = None,
    openapi: Annotated[Path | None, typer.Option(help="An OpenAPI document; with --command or --base-url.")] = None,
    python: Annotated[str | None, typer.Option(help="FILE:CLASS whose typed public methods are the tools.")] = None,
    command: Annotated[str | None, typer.Option(help="With --openapi: what starts the server at {port}.")] = None,
    base_url: Annotated[str | None, typer.Option(help="With --openapi: where the server answers.")] = None,
) -> None:
    """Make a folder around tools: world.yaml with what could be found out about them, and example tasks that pass.

    What it writes is trusted, so give it only what may be started.

    Example: python -m benchmark init my-tools --mcp "python server.py"
    """
    if sum(each is not None for each in (mcp, openapi, python)) != 1:
        raise UserError("give one of --mcp, --openapi, --python")
    if (folder / WORLD_FILE).exists():
        raise UserError(f"{folder / WORLD_FILE}: is there already; edit it, or remove it first")
    folder.mkdir(parents=True, exist_ok=True)
    world: dict[str, Any] = {"name": _name_of(folder), "version": "1"}
    if mcp is not None:
        world["tools"] = [{"mcp": {"command": _words(mcp)}}]
    elif openapi is not None:
        if command is None and base_url is None:
            raise UserError('--openapi: give --command "python server.py {port}" or --base-url URL')
        started = {"command": _words(command)} if command else {}
        world["tools"] = [
            {"openapi": {"file": _inside(folder, openapi), **({"base_url": base_url} if base_url else {}), **started}}
        ]
    else:
        file, _, name = str(python).rpartition(":")
        if not file or not name:
            raise UserError(f"--python {python}: expected FILE:CLASS, such as tools.py:Shop")
        world["tools"] = [{"python": f"{_inside(folder, Path(file))}:{name}"}]
    if (folder / "state").is_dir():
        world["state"] = {"dir": "state"}
    written = folder / WORLD_FILE
    try:
        _write(folder, {**world, "look": []})
        kind = open_kind(read_folder(folder, without_tasks=True), unjudged=True)
        found = find_out(kind)
        world["per_tool"] = found.facts
        tasks = _write_with_tasks(folder, world, found, is_object=python is not None)
    except ServersFault as fault:
        written.unlink(missing_ok=True)
        raise UserError(f"{folder}: {fault.reason}: {fault.text}") from None
    except BaseException:
        written.unlink(missing_ok=True)
        raise
    print(f"wrote {written}: {len(kind.tool_list)} tools; what could only be guessed is marked `guessed`")
    for name, why in found.silent.items():
        print(printable(f"{name} gave no answer to made-up arguments: {why}"))
    if kind.folder.world.is_shared:
        print(
            "the server is shared, so nothing that may change it was called; `reset` in world.yaml says how it begins anew"
        )
    _tell_tasks(folder, tasks)
    print(
        f"next: python -m benchmark tools {folder}" + (f"; python -m benchmark tasks check {folder}" if tasks else "")
    )


def _write_with_tasks(folder: Path, world: dict[str, Any], found: Found, *, is_object: bool) -> list[TaskRow]:
    """Write world.yaml as it shows what was seen to change, and example tasks if some hold; these."""
    looks = [look.model_dump(exclude_defaults=True) for look in found.looks]
    files = [pointer for pointer in found.volatile if pointer.split("/")[1] not in {look.name for look in found.looks}]
    shown = [pointer for pointer in found.volatile if pointer not in files]
    has_files = "state" in world or is_object
    tries: dict[Way, dict[str, Any]] = {
        **({"files": {"volatile": files} if files else {}} if has_files else {}),
        **({"looks": {"look": looks, **({"volatile": shown} if shown else {})}} if looks else {}),
    }
    for way in sorted(tries, key=lambda way: way not in found.ways):
        seen = tries[way]
        for _ in range(2):
            _write(folder, {**world, **seen})
            if found.ways and way not in found.ways:
                break
            tasks, volatile = example_tasks(open_kind(read_folder(folder, without_tasks=True)), found)
            if tasks and not volatile:
                _write_tasks(folder, tasks)
                return tasks
            seen = _leave_out(seen, volatile)
            if "look" in seen and not seen["look"]:
                break
    _write(folder, {**world, **(next(iter(tries.values())) if tries else {})})
    return []


def _leave_out(seen: dict[str, Any], volatile: list[str]) -> dict[str, Any]:
    """What shows the state, without what differs from run to run; a look of which all differs shows nothing."""
    looks = [look for look in seen.get("look", ()) if part_to_pointer(look["name"]) not in volatile]
    gone = {look["name"] for look in seen.get("look", ())} - {look["name"] for look in looks}
    pointers = [*seen.get("volatile", ()), *(each for each in volatile if each.split("/")[1] not in gone)]
    return {**({"look": looks} if "look" in seen else {}), **({"volatile": pointers} if pointers else {})}


def _write_tasks(folder: Path, tasks: list[TaskRow]) -> None:
    if not (folder / TASKS_FILE).exists():
        write_whole(folder / TASKS_FILE, "".join(row.model_dump_json(exclude_defaults=True) + "\n" for row in tasks))
        _trust(folder)


def _tell_tasks(folder: Path, tasks: list[TaskRow]) -> None:
    world = read_folder(folder, without_tasks=True).world
    if not (world.look or world.state or any(isinstance(source, PythonSource) for source in world.tools)):
        print("no tool shows the state: give look or state.dir in world.yaml, or write check.py")
    elif tasks:
        few = "" if len(tasks) == TASKS else "; more calls with made-up arguments did not work, so write some by hand"
        print(f"wrote {folder / TASKS_FILE}: {len(tasks)} example tasks{few}")
    else:
        print(
            f"no call with made-up arguments works and is seen to change the state: write {folder / TASKS_FILE} by hand"
        )
    if world.volatile:
        print(printable(f"differs from run to run, so it is not compared: volatile: {json.dumps(world.volatile)}"))


def _write(folder: Path, world: dict[str, Any]) -> None:
    write_whole(folder / WORLD_FILE, yaml.safe_dump(world, sort_keys=False, allow_unicode=True))
    _trust(folder)


def _trust(folder: Path) -> None:
    trust_from_now_on(startable_of(read_folder(folder, without_tasks=True)))


def _name_of(folder: Path) -> str:
    name = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in folder.resolve().name).strip(
        "-"
    )
    return name if name[:1].isalpha() else f"tools-{name}".rstrip("-")


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UserError(f"{command!r}: not a command line: {error}") from None
    if not words:
        raise UserError("the command is empty")
    return ["{python}" if place == 0 and word in ("python", "python3") else word for place, word in enumerate(words)]


def _inside(folder: Path, file: Path) -> str:
    """A file's path inside the folder; one from elsewhere is copied there."""
    here = folder / file
    if here.is_file():
        return file.as_posix()
    if not file.is_file():
        raise UserError(f"{file}: there is no such file, nor {here}")
    if not file.resolve().is_relative_to(folder.resolve()):
        shutil.copy(file, folder / file.name)
        return file.name
    return file.resolve().relative_to(folder.resolve()).as_posix()
