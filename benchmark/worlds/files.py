"""Files: a real temporary folder, worked on by path.

Paths are relative to that folder. Absolute paths, `..` and symbolic links are errors, and no output ever holds the path
of the folder itself. Write permission is checked from the mode bits by the tools, because a process that runs as root
could write anyway.

Faults, each striking a call that was right:

* `not_found`: somebody has moved the file meanwhile; the error names the new place. Way out: use the new path.
* `permission_denied`: the file (or the folder of a new file) has become read-only. Way out: `make_writable`, then again.
* `busy`: nothing was done. Way out: the same call again.
* `malformed`: the output came back cut off. Way out: the same call again. Strikes reading tools only.

The verdict compares all files with the tree that the task asks for. Goals are the files that must be new or changed; JSON
is compared as values, everything else as text without white space at its end. A file that differs though it should not,
one too many, or one left behind by a move counts as damage: the score is goals held / (goals + damages), and success is
only a score of 1. Folders and permissions are not judged.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import JsonValue

from benchmark.worlds import Fault, Move, Result, Split, Task, Verdict
from benchmark.worlds.families import Family, families_to_tasks
from benchmark.worlds.pools import Draw
from benchmark.worlds.tools import (
    DONE,
    GIVEN_UP,
    Commit,
    Schedule,
    ToolError,
    check_call,
    failed_in_a_row,
    function_to_spec,
    score_to_verdict,
)
from data.records import Action, Category

category: Category = Category.FILE_OPS
version: str = "1"

_WRITABLE = 0o200
_NOW_AT = re.compile(r"not found: (.+), it is now (.+)")
_READ_ONLY = re.compile(r"permission denied: (.+) is read-only")


class FilesWorld:
    """One task's folder. Made on entering, removed on leaving."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._family = _FAMILY_OF[task.family]
        plan = self._family.plan(task.parameters)
        self.before = dict(plan.before)
        """The files that are there at the start (with the changes that faults make), by path."""
        self.made = dict(plan.made)
        """The files that must be new or changed at the end."""
        self.gone = set(plan.gone)
        """The files that must have been moved away."""
        self._now_at: dict[str, str] = {}
        self._schedule = Schedule(task.faults)

    def __enter__(self) -> FilesWorld:
        self._folder = tempfile.TemporaryDirectory(prefix="files-world-")
        self._root = Path(self._folder.name)
        for path, text in self.before.items():
            place = self._root / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(text.encode("utf-8"))
        return self

    def __exit__(self, *exc: object) -> None:
        self._folder.cleanup()

    # What the model can call. A docstring's first line is the description that the model reads.

    def list_folder(self, path: str) -> Commit:
        """List a folder."""
        folder = self._place(path)
        if not folder.is_dir():
            raise self._not_found(path)

        def commit() -> JsonValue:
            names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
            count = sum(not name.endswith("/") for name in names)
            return f"{count} files: {', '.join(names)}"

        return commit

    def read_file(self, path: str) -> Commit:
        """Read a file."""
        place = self._file(path)
        return lambda: place.read_bytes().decode("utf-8")

    def write_file(self, path: str, text: str) -> Commit:
        """Write a file."""
        place = self._place(path)
        if place.is_dir():
            raise ToolError(f"is a folder: {path}")
        self._check_writable(path)
        content = text.encode("utf-8")

        def commit() -> JsonValue:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            return "ok"

        return commit

    def move_file(self, source: str, target: str) -> Commit:
        """Move or rename a file."""
        old, new = self._file(source), self._place(target)
        if new.exists():
            raise ToolError(f"{'is a folder' if new.is_dir() else 'exists already'}: {target}")
        self._check_writable(source)
        self._check_writable(target)

        def commit() -> JsonValue:
            new.parent.mkdir(parents=True, exist_ok=True)
            old.rename(new)
            return "ok"

        return commit

    def convert_file(self, source: str, target: str) -> Commit:
        """Convert CSV to JSON or back."""
        old, new = self._file(source), self._place(target)
        if new.is_dir():
            raise ToolError(f"is a folder: {target}")
        content = convert_text(old.read_bytes().decode("utf-8"), old.suffix, new.suffix).encode("utf-8")
        self._check_writable(target)

        def commit() -> JsonValue:
            new.parent.mkdir(parents=True, exist_ok=True)
            new.write_bytes(content)
            return "ok"

        return commit

    def search_text(self, text: str) -> Commit:
        """Find files that contain a text."""
        if not text:
            raise ToolError("argument 'text' is empty")

        def commit() -> JsonValue:
            hits = [path for path, content in self._tree().items() if text in content]
            return "\n".join(hits) or "no file contains it"

        return commit

    def make_writable(self, path: str) -> Commit:
        """Make read-only things writable."""
        place = self._place(path)
        if not place.exists():
            raise self._not_found(path)

        def commit() -> JsonValue:
            place.chmod(place.stat().st_mode | _WRITABLE)
            return "ok"

        return commit

    def answer(self, text: str) -> None:
        """Words change nothing here."""

    # The world's side of a call.

    def call(self, name: str, arguments: dict[str, Any]) -> Result:
        """Run one tool call; see `World`."""
        try:
            commit = check_call(self, self.task.tools, name, arguments)
            if kind := self._schedule.due(name):
                self._strike(kind, name, arguments, commit)
            return Result(output=commit())
        except ToolError as error:
            return Result(error=str(error), injected=error.injected)
        except OSError as error:  # a name that is too long, a file where a folder is needed
            return Result(error=f"not possible: {error.strerror}")

    def _place(self, path: str) -> Path:
        """The place of a path in the folder; refuses every way out of it."""
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts:
            raise ToolError(f"outside the workspace: {path}")
        place = self._root
        for part in pure.parts:
            place /= part
            if place.is_symlink():
                raise ToolError(f"symbolic links are not allowed: {path}")
        return place

    def _file(self, path: str) -> Path:
        place = self._place(path)
        if place.is_dir():
            raise ToolError(f"is a folder: {path}")
        if not place.exists():
            raise self._not_found(path)
        return place

    def _not_found(self, path: str) -> ToolError:
        now_at = self._now_at.get(_plain(path))
        return ToolError(f"not found: {path}" + (f", it is now {now_at}" if now_at else ""))

    def _changed_by_writing(self, path: str) -> list[str]:
        """What has to be writable for a change at `path`: the thing itself, if it is there, and the folder it is in."""
        pure = PurePosixPath(path)
        there = [pure] if (self._root / pure).exists() else []
        there += [next(parent for parent in pure.parents if (self._root / parent).exists())]
        return [str(each) for each in there]

    def _check_writable(self, path: str) -> None:
        for each in self._changed_by_writing(path):
            if not self.is_writable(each):
                raise ToolError(f"permission denied: {each} is read-only")

    def is_writable(self, path: str) -> bool:
        """True unless the path is there and its mode bits forbid its owner to write."""
        place = self._root / path
        return not place.exists() or bool(place.stat().st_mode & _WRITABLE)

    def _strike(self, kind: str, name: str, arguments: dict[str, Any], commit: Commit) -> None:
        """Let a fault of `kind` hit a call that was right.

        Raises:
            ToolError: what the model reads. Nothing is raised where the fault has nothing to hit.
        """
        if kind == "busy":
            raise ToolError("device busy, try again", kind)
        if kind == "malformed":
            output = str(commit())
            start = json.dumps(output[: min(len(output) // 2, 16)], ensure_ascii=False)
            raise ToolError(f"malformed output, cut off: {start[:-1]}", kind)
        path = _plain(arguments["source"] if "source" in arguments else arguments["path"])
        if kind == "not_found":
            self._move_away(path)
        else:
            written = arguments["target"] if name == "convert_file" else path
            locked = self._root / self._changed_by_writing(written)[0]
            locked.chmod(locked.stat().st_mode & ~0o222)
        try:
            check_call(self, self.task.tools, name, arguments)
        except ToolError as error:
            raise ToolError(str(error), kind) from None

    def _move_away(self, path: str) -> None:
        """Somebody else moves a file of the task into the folder `elsewhere`; what the task asks for moves along."""
        new = f"{self.task.parameters['elsewhere']}/{PurePosixPath(path).name}"
        if path not in self.before or path in self.made or (self._root / new).exists():
            return
        (self._root / new).parent.mkdir(exist_ok=True)
        (self._root / path).rename(self._root / new)
        self._now_at[path] = new
        self.before[new] = self.before.pop(path)
        if path in self.gone:
            self.gone.remove(path)
            self.gone.add(new)

    def _tree(self) -> dict[str, str]:
        """Every file by path, sorted; a link or a file that is no UTF-8 text counts as empty."""
        tree: dict[str, str] = {}
        for folder, _, names in os.walk(self._root):
            for name in names:
                place = Path(folder, name)
                content = b"" if place.is_symlink() else place.read_bytes()
                tree[str(place.relative_to(self._root).as_posix())] = content.decode("utf-8", errors="replace")
        return dict(sorted(tree.items()))

    def text_at(self, path: str) -> str | None:
        """The text of the file at `path` as it is now, or None where there is none."""
        place = self._root / path
        return place.read_bytes().decode("utf-8", errors="replace") if place.is_file() else None

    def verdict(self) -> Verdict:
        """Judge the files as they are now; see the module's docstring."""
        tree = self._tree()
        missing = [path for path, text in self.made.items() if path not in tree or not _same(path, tree[path], text)]
        damage = [f"{path} was left behind" for path in sorted(self.gone) if path in tree]
        for path, text in self.before.items():
            if path not in self.made and path not in self.gone and tree.get(path) != text:
                damage.append(f"{path} is {'changed' if path in tree else 'missing'}")
        damage += [f"{path} is too many" for path in tree if path not in self.before and path not in self.made]
        return score_to_verdict(len(self.made), [f"{path} is not as asked" for path in missing], damage)

    def expert(self, history: Sequence[Action]) -> Move:
        """First put right what can be put right, then the first step of the family that is not done."""
        if self.verdict().score == 1:
            return Move(None, answer=DONE)
        known = _history_to_known(history)
        move = self._repair(known) or self._family.next_call(self, known, self.task.parameters)
        if move is None or move.command is None or failed_in_a_row(history, move.command, move.input) > 2:
            return Move(None, answer=GIVEN_UP)
        return move

    def _repair(self, known: _Known) -> Move | None:
        """Unlock what an error named, write back what was read and then overwritten, undo wrong moves."""
        names = {tool.function.name for tool in self.task.tools}
        for path in known.read_only:
            if "make_writable" in names and not self.is_writable(path):
                return Move("make_writable", {"path": path})
        if "write_file" in names:
            for path, text in known.texts.items():
                home = known.now_at.get(path, path)
                is_fixed = self.before.get(home) == text and home not in self.made and home not in self.gone
                if is_fixed and self.text_at(home) not in (text, None):
                    return Move("write_file", {"path": home, "text": text})
        if "move_file" in names:
            for path, now in known.moved.items():
                home = known.now_at.get(path, path)
                was_right = home in self.gone and now in self.made
                if now == home or was_right or self.text_at(now) is None or self.text_at(home) is not None:
                    continue
                if home in self.before and home not in self.gone:
                    return Move("move_file", {"source": now, "target": home})
        return None


def open(task: Task) -> FilesWorld:
    """The world of a task; nothing is on disk before it is entered."""
    return FilesWorld(task)


def _plain(path: str) -> str:
    return str(PurePosixPath(path))


def _same(path: str, text: str, wanted: str) -> bool:
    """JSON is equal as a value, other text up to white space at its end."""
    if path.endswith(".json"):
        try:
            return bool(json.loads(text) == json.loads(wanted))
        except (ValueError, RecursionError):
            return False
    return text.rstrip() == wanted.rstrip()


def convert_text(text: str, source: str, target: str) -> str:
    """CSV text to JSON text or back; `source` and `target` are suffixes. A table is a list of flat objects in JSON.

    Raises:
        ToolError: other suffixes, or text that is no such table.
    """
    if (source, target) == (".csv", ".json"):
        try:
            header, *rows = csv.reader(io.StringIO(text), strict=True)
            return json.dumps([dict(zip(header, row, strict=True)) for row in rows], ensure_ascii=False)
        except (ValueError, csv.Error):
            raise ToolError("not a CSV table") from None
    if (source, target) == (".json", ".csv"):
        try:
            objects = json.loads(text)
            header = list(objects[0])
            if any(list(each) != header for each in objects):
                raise ValueError
            output = io.StringIO()
            csv.writer(output, lineterminator="\n").writerows([header, *(each.values() for each in objects)])
            return output.getvalue()
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise ToolError("not a JSON list of equal objects") from None
    raise ToolError(f"can convert .csv to .json or back, not {source or 'no suffix'} to {target or 'no suffix'}")


@dataclass
class _Known:
    """What a model can know after a history; files are named by the path they had at first."""

    texts: dict[str, str]
    found: dict[str, set[str]]
    """Searched text -> files that the search named."""
    lists: dict[str, str]
    """Folder -> what listing it said."""
    moved: dict[str, str]
    """File -> where it is now, by the model's own moves and by what errors told."""
    now_at: dict[str, str]
    """File -> where somebody else has moved it, as an error told."""
    read_only: list[str]

    def where(self, path: str) -> str:
        return self.moved.get(path, path)

    def is_known_to_contain(self, path: str, text: str) -> bool:
        return path in self.found.get(text, ()) or path in self.moved or text in self.texts.get(path, "")


def _history_to_known(history: Sequence[Action]) -> _Known:
    known = _Known({}, {}, {}, {}, {}, [])

    def first_path(path: str) -> str:
        return next((first for first, now in known.moved.items() if now == _plain(path)), _plain(path))

    for action in history:
        if action.error is not None:
            if told := _NOW_AT.fullmatch(action.error):
                known.moved[first_path(told[1])] = known.now_at[first_path(told[1])] = told[2]
            elif told := _READ_ONLY.fullmatch(action.error):
                known.read_only.append(told[1])
            continue
        given = action.input
        if not isinstance(given, dict):
            continue
        path, output = str(given.get("path")), str(action.output)
        if action.command == "read_file":
            known.texts[first_path(path)] = output
        elif action.command == "list_folder":
            known.lists[_plain(path)] = output
        elif action.command == "search_text":
            known.found[str(given["text"])] = {first_path(hit) for hit in output.splitlines()}
        elif action.command == "move_file":
            known.moved[first_path(str(given["source"]))] = _plain(str(given["target"]))
    return known


# Steps: each returns the call that does it, or None when it is done or cannot be done any more.


def _write(world: FilesWorld, path: str, text: str) -> Move | None:
    now = world.text_at(path)
    return None if now is not None and _same(path, now, text) else Move("write_file", {"path": path, "text": text})


def _read(world: FilesWorld, known: _Known, path: str) -> Move | None:
    if path in known.texts or world.text_at(known.where(path)) is None:
        return None
    return Move("read_file", {"path": known.where(path)})


def _move(world: FilesWorld, known: _Known, source: str, target: str) -> Move | None:
    if world.text_at(target) is not None or world.text_at(known.where(source)) is None:
        return None
    return Move("move_file", {"source": known.where(source), "target": target})


def _convert(world: FilesWorld, known: _Known, source: str, target: str) -> Move | None:
    text, now, wanted = world.text_at(known.where(source)), world.text_at(target), world.made[target]
    if text is None or (now is not None and _same(target, now, wanted)):
        return None
    try:
        helps = _same(target, convert_text(text, PurePosixPath(source).suffix, PurePosixPath(target).suffix), wanted)
    except ToolError:
        helps = False
    # A source that was overwritten cannot be converted into what is wanted any more.
    return Move("convert_file", {"source": known.where(source), "target": target}) if helps else None


@dataclass(frozen=True)
class _Plan:
    """The files at the start, those that must be made, and those that must be moved away."""

    before: dict[str, str]
    made: dict[str, str]
    gone: frozenset[str] = frozenset()


@dataclass(frozen=True)
class FilesFamily(Family):
    """A family with its files and the expert's way; None as next call means that nothing is left to do."""

    plan: Callable[[Any], _Plan] = lambda p: _Plan({}, {})
    next_call: Callable[[FilesWorld, _Known, Any], Move | None] = lambda world, known, p: None


def _note(draw: Draw) -> str:
    return f"{draw.person()} {draw.number(10, 99)} {draw.word()}"


def _draw_write(draw: Draw) -> dict[str, JsonValue]:
    folder = draw.folder()
    parameters: dict[str, JsonValue] = {
        "path": f"{folder}/{draw.word()}.txt",
        "text": _note(draw),
        "other": f"{folder}/{draw.word()}.txt",
    }
    # Half of the files are there already and say something else.
    return {**parameters, "old": _note(draw)} if draw.random.random() < 0.5 else parameters


def _plan_write(p: Any) -> _Plan:
    before = {p["other"]: "keep"}
    if "old" in p:
        before[p["path"]] = p["old"]
    return _Plan(before, {p["path"]: p["text"]})


def _draw_move(draw: Draw) -> dict[str, JsonValue]:
    folder, stem = draw.folder(), draw.word()
    # Half of them move to another folder under the same name, half are renamed in place.
    target = f"{draw.folder()}/{stem}.txt" if draw.random.random() < 0.5 else f"{folder}/{draw.word()}.txt"
    return {
        "source": f"{folder}/{stem}.txt",
        "target": target,
        "text": _note(draw),
        "other": f"{folder}/{draw.word()}.txt",
        "elsewhere": draw.folder(),
    }


def _draw_convert(draw: Draw) -> dict[str, JsonValue]:
    source, target = draw.random.choice([("csv", "json"), ("json", "csv")])
    folder = draw.folder()
    return {
        "source": f"{folder}/{draw.word()}.{source}",
        "target": f"{folder}/{draw.word()}.{target}",
        "items": [draw.item(), draw.item()],
        "prices": [draw.number(10, 99), draw.number(10, 99)],
        "elsewhere": draw.folder(),
    }


def _table(p: Any) -> str:
    rows = zip(p["items"], p["prices"], strict=True)
    return "item,price\n" + "".join(f"{item},{price}\n" for item, price in rows)


def _plan_convert(p: Any) -> _Plan:
    as_csv = _table(p)
    as_json = convert_text(as_csv, ".csv", ".json")
    texts = (as_csv, as_json) if p["source"].endswith(".csv") else (as_json, as_csv)
    return _Plan({p["source"]: texts[0]}, {p["target"]: texts[1]})


def _draw_copy(draw: Draw) -> dict[str, JsonValue]:
    return {
        "source": f"{draw.folder()}/{draw.word()}.txt",
        "target": f"{draw.folder()}/{draw.word()}.txt",
        "text": _note(draw),
        "elsewhere": draw.folder(),
    }


def _next_copy(world: FilesWorld, known: _Known, p: Any) -> Move | None:
    if p["source"] not in known.texts:
        return _read(world, known, p["source"])
    return _write(world, p["target"], known.texts[p["source"]])


def _draw_count(draw: Draw) -> dict[str, JsonValue]:
    names: list[JsonValue] = [f"{draw.word()}.txt" for _ in range(draw.random.randint(2, 4))]
    return {"folder": draw.folder(), "names": names, "target": f"{draw.folder()}/{draw.word()}.txt"}


def _next_count(world: FilesWorld, known: _Known, p: Any) -> Move | None:
    if p["folder"] not in known.lists:
        return Move("list_folder", {"path": p["folder"]})
    return _write(world, p["target"], known.lists[p["folder"]].split()[0])


def _draw_found(draw: Draw) -> dict[str, JsonValue]:
    folder, person = draw.folder(), draw.person()
    return {
        "person": person,
        "source": f"{folder}/{draw.word()}.txt",
        "text": f"{person} {draw.number(10, 99)} {draw.word()}",
        "other": f"{folder}/{draw.word()}.txt",
        "other_text": f"{draw.bystander()} {draw.number(10, 99)} {draw.word()}",
        "target": f"{draw.folder()}/{draw.word()}.txt",
    }


def _plan_found(p: Any) -> _Plan:
    return _Plan({p["source"]: p["text"], p["other"]: p["other_text"]}, {p["target"]: p["text"]})


def _search(known: _Known, text: str) -> Move | None:
    """A search that has been made is not made again: what it did not find then is lost."""
    return None if text in known.found else Move("search_text", {"text": text})


def _next_find_move(world: FilesWorld, known: _Known, p: Any) -> Move | None:
    if not known.is_known_to_contain(p["source"], p["person"]):
        return _search(known, p["person"])
    return _move(world, known, p["source"], p["target"])


def _next_find_copy(world: FilesWorld, known: _Known, p: Any) -> Move | None:
    if not known.is_known_to_contain(p["source"], p["person"]):
        return _search(known, p["person"])
    return _next_copy(world, known, p)


def _draw_price(draw: Draw) -> dict[str, JsonValue]:
    items: list[JsonValue] = [draw.item(), draw.item()]
    prices: list[JsonValue] = [draw.number(10, 99), draw.number(10, 99)]
    which = draw.random.randrange(2)
    # Three files are named in every step, so they have no folders: names are what makes this prompt long.
    return {
        "source": f"{draw.word()}.csv",
        "target": f"{draw.word()}.json",
        "items": items,
        "prices": prices,
        "item": items[which],
        "price": prices[which],
        "note": f"{draw.word()}.txt",
    }


def _plan_price(p: Any) -> _Plan:
    table = _table(p)
    return _Plan({p["source"]: table}, {p["target"]: convert_text(table, ".csv", ".json"), p["note"]: str(p["price"])})


def _next_price(world: FilesWorld, known: _Known, p: Any) -> Move | None:
    if convert := _convert(world, known, p["source"], p["target"]):
        return convert
    note = world.text_at(p["note"])
    if note is not None and _same(p["note"], note, world.made[p["note"]]):
        return None
    if p["source"] not in known.texts:
        return _read(world, known, p["source"])
    rows = dict(line.split(",", 1) for line in known.texts[p["source"]].splitlines() if "," in line)
    return _write(world, p["note"], rows[p["item"]]) if p["item"] in rows else None


FAMILIES: tuple[FilesFamily, ...] = (
    FilesFamily(
        name="write",
        tier=1,
        tools=("write_file", "read_file", "make_writable"),
        draw=_draw_write,
        english=('Write "{text}" into "{path}".', 'The file "{path}" shall say "{text}". Write it.'),
        korean='"{path}"에 "{text}"라고 쓰세요.',
        facts=("path", "text"),
        faults=(Fault("permission_denied", "write_file", 0), Fault("busy", "write_file", 0)),
        plan=_plan_write,
        next_call=lambda world, known, p: _write(world, p["path"], p["text"]),
    ),
    FilesFamily(
        name="move",
        tier=1,
        tools=("move_file", "list_folder", "make_writable"),
        draw=_draw_move,
        english=('Move "{source}" to "{target}".', 'The file "{source}" belongs at "{target}". Move it there.'),
        korean='"{source}" 파일을 "{target}"로 옮기세요.',
        facts=("target",),
        faults=(Fault("not_found", "move_file", 0), Fault("permission_denied", "move_file", 0)),
        plan=lambda p: _Plan(
            {p["source"]: p["text"], p["other"]: "keep"}, {p["target"]: p["text"]}, frozenset({p["source"]})
        ),
        next_call=lambda world, known, p: _move(world, known, p["source"], p["target"]),
    ),
    FilesFamily(
        name="convert",
        tier=1,
        tools=("convert_file", "read_file", "make_writable"),
        draw=_draw_convert,
        english=('Convert "{source}" to "{target}".', 'Make "{target}" out of "{source}".'),
        korean='"{source}"를 "{target}"(으)로 변환하세요.',
        facts=("target",),
        faults=(
            Fault("not_found", "convert_file", 0),
            Fault("permission_denied", "convert_file", 0),
            Fault("busy", "convert_file", 0),
        ),
        plan=_plan_convert,
        next_call=lambda world, known, p: _convert(world, known, p["source"], p["target"]),
    ),
    FilesFamily(
        name="copy",
        tier=2,
        tools=("read_file", "write_file", "list_folder"),
        draw=_draw_copy,
        english=('Copy the text of "{source}" into "{target}".', 'Write what "{source}" says into "{target}".'),
        korean='"{source}"의 내용을 "{target}"에 쓰세요.',
        facts=("target", "text"),
        faults=(
            Fault("not_found", "read_file", 0),
            Fault("malformed", "read_file", 0),
            Fault("busy", "write_file", 0),
        ),
        plan=lambda p: _Plan({p["source"]: p["text"]}, {p["target"]: p["text"]}),
        next_call=_next_copy,
    ),
    FilesFamily(
        name="find-move",
        tier=2,
        tools=("search_text", "move_file", "list_folder"),
        draw=_draw_found,
        english=(
            'One file contains "{person}". Move it to "{target}".',
            'Find the file with "{person}" in it and move it to "{target}".',
        ),
        korean='"{person}"이(가) 들어 있는 파일을 "{target}"로 옮기세요.',
        facts=("source", "target"),
        faults=(Fault("malformed", "search_text", 0), Fault("busy", "move_file", 0)),
        plan=lambda p: _Plan(
            {p["source"]: p["text"], p["other"]: p["other_text"]}, {p["target"]: p["text"]}, frozenset({p["source"]})
        ),
        next_call=_next_find_move,
    ),
    FilesFamily(
        name="count",
        tier=2,
        tools=("list_folder", "write_file", "search_text"),
        draw=_draw_count,
        english=(
            'Count the files in "{folder}" and write the number into "{target}".',
            'How many files are in "{folder}"? Write the number into "{target}".',
        ),
        korean='"{folder}"의 파일 수를 "{target}"에 쓰세요.',
        facts=("target",),
        faults=(Fault("malformed", "list_folder", 0), Fault("busy", "write_file", 0)),
        plan=lambda p: _Plan(
            {f"{p['folder']}/{name}": "keep" for name in p["names"]}, {p["target"]: str(len(p["names"]))}
        ),
        next_call=_next_count,
    ),
    FilesFamily(
        name="find-copy",
        tier=3,
        tools=("search_text", "read_file", "write_file"),
        draw=_draw_found,
        english=(
            'One file contains "{person}". Copy its text into "{target}".',
            'Find the file with "{person}" in it and write its text into "{target}".',
        ),
        facts=("source", "text", "target"),
        plan=_plan_found,
        next_call=_next_find_copy,
    ),
    FilesFamily(
        name="convert-price",
        tier=3,
        tools=("convert_file", "read_file", "write_file"),
        draw=_draw_price,
        english=(
            'Convert "{source}" to "{target}", then write the price of "{item}" into "{note}".',
            'Make "{target}" out of "{source}" and write the price of "{item}" into "{note}".',
        ),
        facts=("price", "note"),
        plan=_plan_price,
        next_call=_next_price,
    ),
)

_FAMILY_OF = {family.name: family for family in FAMILIES}
TOOLS = {
    function.__name__: function_to_spec(function)
    for function in (
        FilesWorld.list_folder,
        FilesWorld.read_file,
        FilesWorld.write_file,
        FilesWorld.move_file,
        FilesWorld.convert_file,
        FilesWorld.search_text,
        FilesWorld.make_writable,
    )
}


def tasks(split: Split, count: int, seed: int) -> list[Task]:
    """`count` distinct tasks over all families, the same for the same arguments."""
    return families_to_tasks(FAMILIES, TOOLS, world="files", split=split, count=count, seed=seed)
