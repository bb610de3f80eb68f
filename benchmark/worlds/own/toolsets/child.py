"""Runs a folder's Python, its tools or its check, in a process of its own: the folder comes first on the path, we do not.

Started as a script with `-I`, so it imports nothing of ours; pydantic is the only library. Requests come as lines of JSON on
standard input and are answered, a line each, on what was standard output; what the folder's code prints goes to the log.
"""

import asyncio
import dataclasses
import importlib.util
import inspect
import json
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

NO_TOOLS = ("reset", "get_reward")
STATE = "__state__"
_SECTION = re.compile(r"^\s*(Args|Arguments|Parameters|Returns|Return|Raises|Yields|Examples?|Notes?):\s*$", re.M)
_PARAMETER = re.compile(r"^\s*\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.*)$")


class Row(dict[str, Any]):
    """A row whose fields can be read as attributes, too."""

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(name)


class CallError(Exception):
    """A call of a check that the tool answered with an error."""


class Run:
    """What a check sees of an episode."""

    def __init__(
        self, ask: Callable[[dict[str, Any]], dict[str, Any]], answer: str, actions: list[dict[str, Any]]
    ) -> None:
        self._ask = ask
        self.answer = answer
        self.actions = [Row(action) for action in actions]

    def call(self, name: str, arguments: dict[str, Any] | None = None, /, **more: Any) -> Any:
        """What a tool gives back now."""
        result = self._ask({"ask": {"name": name, "arguments": {**(arguments or {}), **more}}})
        if result.get("error") is not None:
            raise CallError(result["error"])
        return result["output"]


def plain(value: Any) -> Any:
    """A result as JSON has it."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(plain(key)): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        inner = [plain(each) for each in value]
        return sorted(inner, key=repr) if isinstance(value, set | frozenset) else inner
    if hasattr(value, "value") and type(value).__module__ != "builtins" and hasattr(type(value), "__members__"):
        return plain(value.value)
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    if isinstance(value, int | float) or value is None:
        return value
    return written(value if isinstance(value, str) else str(value))


def written(text: str) -> str:
    """A text as UTF-8 can hold it."""
    return text.encode("utf-8", "replace").decode()


def load(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file.name} is no Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module


def read_docstring(text: str | None) -> tuple[str, dict[str, str]]:
    """What a docstring says of a method, and of each parameter in its section `Args:`."""
    doc = inspect.cleandoc(text or "")
    first = _SECTION.search(doc)
    description = doc[: first.start()].strip() if first else doc.strip()
    parameters: dict[str, str] = {}
    found = re.search(r"^\s*(?:Args|Arguments|Parameters):\s*\n(.*)", doc, re.M | re.S)
    if found:
        body = _SECTION.split(found[1])[0]
        indent = min((len(line) - len(line.lstrip()) for line in body.splitlines() if line.strip()), default=0)
        name = None
        for line in body.splitlines():
            match = _PARAMETER.match(line)
            if match and len(line) - len(line.lstrip()) == indent:
                name = match[1]
                parameters[name] = match[2].strip()
            elif name and line.strip():
                parameters[name] = f"{parameters[name]} {line.strip()}"
    return description, parameters


def without_titles(schema: Any) -> None:
    """Take away the titles that pydantic makes of names. A property that is called `title` stays."""
    if isinstance(schema, dict):
        if isinstance(schema.get("title"), str):
            del schema["title"]
        for key, inner in schema.items():
            for each in inner.values() if key in ("properties", "$defs") and isinstance(inner, dict) else [inner]:
                without_titles(each)
    elif isinstance(schema, list):
        for inner in schema:
            without_titles(inner)


class Tools:
    """The tools of one object: its marked methods where it has such (tau2), else its public ones."""

    def __init__(self, owner: Any) -> None:
        self.owner = owner
        methods = {name: getattr(owner, name) for name in dir(type(owner)) if _is_public_method(type(owner), name)}
        marked = {name: method for name, method in methods.items() if getattr(method, "__tool__", False)}
        shown = {name: method for name, method in marked.items() if not getattr(method, "__discoverable__", False)}
        order = {name: number for number, name in enumerate(_in_source_order(type(owner)))}
        chosen = shown or {name: method for name, method in methods.items() if name not in NO_TOOLS}
        self.methods = dict(sorted(chosen.items(), key=lambda item: order.get(item[0], 0)))
        self._models: dict[str, Any] = {}
        self._names: dict[str, dict[str, str]] = {}

    def describe(self) -> list[dict[str, Any]]:
        return [self._describe(name, method) for name, method in self.methods.items()]

    def _describe(self, name: str, method: Any) -> dict[str, Any]:
        description, told = read_docstring(method.__doc__)
        schema = self._model(name).model_json_schema()
        without_titles(schema)
        schema.setdefault("type", "object")
        for key, inner in schema.setdefault("properties", {}).items():
            if key in told and "description" not in inner:
                inner["description"] = told[key]
        mutates = getattr(method, "__mutates_state__", None)
        if mutates is None and getattr(method, "__tool_type__", None) is not None:
            mutates = str(plain(method.__tool_type__)).lower() == "write"
        return {
            "name": name,
            "description": description,
            "parameters": schema,
            "read_only": None if mutates is None else not mutates,
        }

    def _model(self, name: str) -> Any:
        from pydantic import ConfigDict, create_model

        if name not in self._models:
            method = self.methods[name]
            function = getattr(method, "__func__", method)
            hints = get_type_hints(function, include_extras=True)
            fields: dict[str, Any] = {}
            for key, parameter in inspect.signature(method).parameters.items():
                if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                    fields[key] = (
                        hints.get(key, Any),
                        ... if parameter.default is parameter.empty else parameter.default,
                    )
            renamed = {f"p_{number}": value for number, value in enumerate(fields.values())}
            aliases = dict(zip(renamed, fields, strict=True))
            config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", alias_generator=aliases.__getitem__)
            self._models[name] = create_model(name, __config__=config, **renamed)
            self._names[name] = aliases
        return self._models[name]

    def call(self, name: str, arguments: dict[str, Any]) -> Any:
        if name == STATE:
            return plain(self.owner.db if hasattr(self.owner, "db") else vars(self.owner))
        if name not in self.methods:
            raise ValueError(f"unknown tool {name!r}")
        model = self._model(name)
        given = model.model_validate(arguments)
        values = {
            key: getattr(given, field) for field, key in self._names[name].items() if field in given.model_fields_set
        }
        result = self.methods[name](**values)
        return plain(asyncio.run(result) if inspect.iscoroutine(result) else result)


def _is_public_method(cls: type, name: str) -> bool:
    static = inspect.getattr_static(cls, name)
    return not name.startswith("_") and (inspect.isfunction(static) or isinstance(static, staticmethod | classmethod))


def _in_source_order(cls: type) -> list[str]:
    return [name for each in reversed(cls.__mro__) for name in vars(each)]


def make(cls: Any, places: list[Path]) -> Any:
    """An object of the class. A tau2 toolkit gets its database, read from the db.json of the state or the folder."""
    parameter = inspect.signature(cls).parameters.get("db")
    if parameter is None:
        return cls()
    kind: Any = get_type_hints(cls.__init__).get("db") or get_type_hints(cls).get("db")
    found = next(
        (place / name for place in places for name in ("db.json", "db.toml") if (place / name).is_file()), None
    )
    if found is None:
        return cls() if parameter.default is not parameter.empty else cls(None)
    return cls(kind.load(str(found)))


def reset(owner: Any, task: dict[str, Any], row: dict[str, Any]) -> Any:
    """Call the object's `reset`, where it has one, with the fields of the task that it names, or all if it takes any.

    What stands in the task's own `row` is always given, so a name that is no parameter is an error.
    """
    if not hasattr(owner, "reset"):
        return None
    taken = inspect.signature(owner.reset).parameters
    takes_any = any(each.kind is each.VAR_KEYWORD for each in taken.values())
    given = {key: Row(value) if isinstance(value, dict) else value for key, value in task.items()}
    result = owner.reset(**{key: value for key, value in given.items() if takes_any or key in taken} | row)
    return asyncio.run(result) if inspect.iscoroutine(result) else result


def told(error: BaseException) -> str:
    text = str(error).strip()
    if type(error).__name__ == "ValidationError" and hasattr(error, "errors"):
        first = error.errors()[0]
        text = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return written(text) or type(error).__name__


def where(error: BaseException, folder: Path) -> str:
    """The line of the folder's code in which an error came up, and its text."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(str(folder))]
    place = f"{os.path.relpath(frames[-1].filename, folder)}:{frames[-1].lineno}: " if frames else ""
    return f"{place}{type(error).__name__}: {told(error)}"[:500]


def leave_ours(root: str) -> None:
    """Take the project off the path; an editable installation puts it there, or a finder of its own."""
    sys.path[:] = [path for path in sys.path if os.path.realpath(path or ".") != os.path.realpath(root)]
    sys.meta_path[:] = [finder for finder in sys.meta_path if "tooltune" not in getattr(finder, "__module__", "")]
    sys.path_hooks[:] = [hook for hook in sys.path_hooks if "tooltune" not in getattr(hook, "__module__", "")]


def main() -> None:
    root, folder_name, state = sys.argv[1:4]
    folder = Path(folder_name)
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    leave_ours(root)
    sys.path.insert(0, str(folder))
    sys.argv = [str(folder)]
    if importlib.util.find_spec("tau2") is None:
        spec = importlib.util.spec_from_file_location("_tau2_stand_in", Path(__file__).with_name("tau2_stand_in.py"))
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.install(folder)

    def write(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer, ensure_ascii=True).encode() + b"\n")
        answers.flush()

    def ask(question: dict[str, Any]) -> dict[str, Any]:
        write(question)
        answer: dict[str, Any] = json.loads(requests.readline())
        return answer

    tools: Tools | None = None
    for line in requests:
        request = json.loads(line)
        do = request["do"]
        try:
            if do == "open":
                module = load(folder / request["file"])
                if not hasattr(module, request["class"]):
                    names = [name for name, value in vars(module).items() if inspect.isclass(value)]
                    raise AttributeError(
                        f"{request['file']} has no class {request['class']}, there are: {', '.join(names)}"
                    )
                places = [Path(state)] if state else []
                tools = Tools(make(getattr(module, request["class"]), [*places, folder]))
                value: Any = tools.describe()
            elif do == "check":
                module = load(folder / request["file"])
                run = Run(ask, request["answer"], request["actions"])
                value = plain(module.check(Row(request["task"]), run))
            elif tools is None:
                raise RuntimeError("nothing is open")
            elif do == "call":
                try:
                    value = tools.call(request["name"], request["arguments"])
                except Exception as error:
                    traceback.print_exc()
                    write({"error": told(error)})
                    continue
            elif do == "reset":
                value = plain(reset(tools.owner, request["task"], request["row"]))
            else:
                value = float(tools.owner.get_reward()) if hasattr(tools.owner, "get_reward") else None
            write({"value": value})
        except Exception as error:
            traceback.print_exc()
            write({"broke": where(error, folder)})


if __name__ == "__main__":
    main()
