"""Files: a real temporary folder, worked on by path. The families of its tasks are in `files_families.py`.

Paths are relative to that folder. Absolute paths, `..` and symbolic links are errors, and so is an archive whose members lead
out; no output ever holds the path of the folder itself. Write permission is checked from the mode bits by the tools, because
a process that runs as root could write anyway.

Faults, each striking a call that was right and changing nothing that the verdict looks at:

* `busy`, `timed_out`: nothing was done. Way out: the same call again. So with `malformed` (the output is cut off).
* `not_found`: somebody has moved the file meanwhile; the error names the new place. Way out: use the new path.
* `permission_denied`: the file (or the folder of a new file) has become read-only. Way out: `make_writable`, then again.
* `disk_full`: nothing can be written until a file that the error names is deleted. Way out: `delete_file`, then again.
* `locked`: another program uses the file, and for how long. Way out: `wait`, then again.
* `unmounted`: the folder is not mounted. Way out: `mount_folder`, then again.
* `stale`: somebody has added a line to a file after it was read. Way out: read it again, then edit it; the line stays.

The verdict compares all files with the tree that the task asks for. Goals are the files that must be new or changed, and
permissions where a task asks for them; formats are compared as values, everything else to the byte, white space at its end
aside. A file that differs though it should not, one too many, or one left behind by a move counts as damage, and so do other
permissions where a task is about them: the score is goals held / (goals + damages). Folders are not judged.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from pydantic import JsonValue

from benchmark.worlds.family import families_to_tasks
from benchmark.worlds.files.families import FAMILIES, Content
from benchmark.worlds.files.file_formats import (
    MAX_BYTES,
    MAX_FILES,
    change_encoding,
    convert_text,
    name_of_encoding,
    read_zip,
    same_content,
    write_zip,
)
from benchmark.worlds.tools import (
    DONE,
    GIVEN_UP,
    Commit,
    ToolError,
    ToolWorld,
    failed_in_a_row,
    function_to_spec,
    score_to_verdict,
)
from benchmark.worlds.world import Move, Split, Task, Verdict
from data.records import Action, Category

category: Category = Category.FILE_OPS
version: str = "2"

_MEMORY = Path("/dev/shm")
"""Files in memory, where the system has such and TMPDIR does not say otherwise: a busy disk takes 10 ms to remove a folder."""
_WRITABLE = 0o200
_MAX_DEPTH = 12
_NOW_AT = re.compile(r"not found: (.+), it is now (.+)")
_READ_ONLY = re.compile(r"permission denied: (.+) is read-only")
_FULL = re.compile(r"no space left, delete (.+)")
_LOCKED = re.compile(r"locked by another program: (.+), wait (\d+) seconds")
_UNMOUNTED = re.compile(r"not mounted: (.+)")
_STALE = re.compile(r"(.+) was changed after it was read, read it again")

_LOOKS = ("list_folder", "find_files", "search_text", "read_file", "file_info", "read_bytes", "read_number", "list_zip")
_OF_THERE = ("path", "source", "archive")
"""Arguments that name files which may have been moved meanwhile."""
_WRITTEN = {
    "move_file": "source",
    "convert_file": "target",
    "add_to_zip": "archive",
    "extract_file": "target",
    "unzip_file": "folder",
}
"""Tool -> the argument that names what it changes, where that is not `path`."""


class FilesWorld(ToolWorld):
    """One task's folder. Made on entering, removed on leaving."""

    TOLD: ClassVar = {"busy": "device busy, try again", "timed_out": "timed out before anything was done, try again"}

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        plan = _FAMILY_OF[task.family].plan(task)
        self.before = {path: _to_bytes(content) for path, content in plan.before.items()}
        """The files that are there at the start (with the changes that faults make), by path."""
        self.made = {path: _to_bytes(content) for path, content in plan.made.items()}
        """The files that must be new or changed at the end."""
        self.modes = dict(plan.modes)
        """File -> the permissions that it must have at the end, in octal; empty where they are nobody's business."""
        self.gone = set(plan.gone)
        """The files that must have been moved away."""
        self.steps = plan.steps
        self._now_at: dict[str, str] = {}
        self._stale: set[str] = set()
        self._unmounted: set[str] = set()
        self._free_at_s: dict[str, float] = {}
        self._in_the_way: str | None = None

    def __enter__(self) -> FilesWorld:
        in_memory = "TMPDIR" not in os.environ and os.access(_MEMORY, os.W_OK | os.X_OK)
        self._folder = tempfile.TemporaryDirectory(prefix="files-world-", dir=_MEMORY if in_memory else None)
        self._root = Path(self._folder.name)
        for path, content in self.before.items():
            place = self._root / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            place.chmod(0o644)
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

    def find_files(self, pattern: str) -> Commit:
        """Find files by a pattern of their names, such as *.txt."""
        if not pattern or len(pattern) > 100:
            raise ToolError("argument 'pattern' must have 1 to 100 characters")

        def commit() -> JsonValue:
            hits = [path for path in self._tree() if fnmatchcase(PurePosixPath(path).name, pattern)]
            return "\n".join(hits) or "no file has such a name"

        return commit

    def read_file(self, path: str) -> Commit:
        """Read a file."""
        text = self._text(path)

        def commit() -> JsonValue:
            self._stale.discard(_plain(path))
            return text

        return commit

    def file_info(self, path: str) -> Commit:
        """Tell the size, the permissions and the encoding of a file."""
        place = self._file(path)
        content = place.read_bytes()
        mode = f"{place.stat().st_mode & 0o777:o}"
        return lambda: f"{len(content)} bytes, permissions {mode}, {name_of_encoding(content)}"

    def read_bytes(self, path: str, offset: int, count: int) -> Commit:
        """Read bytes of a file in hexadecimal."""
        content = self._bytes(path, offset, count)
        return lambda: content.hex(" ")

    def read_number(self, path: str, offset: int, size: int, order: str) -> Commit:
        """Read a whole number of so many bytes from a binary file; order is big or little."""
        content = self._bytes(path, offset, size)
        return lambda: str(int.from_bytes(content, _order(size, order)))

    def list_zip(self, path: str) -> Commit:
        """List the files of a zip archive."""
        names = list(read_zip(self._file(path).read_bytes()))
        return lambda: ", ".join(names) or "no files"

    def search_text(self, text: str) -> Commit:
        """Find files that contain a text."""
        if not text:
            raise ToolError("argument 'text' is empty")

        def commit() -> JsonValue:
            hits = [path for path, content in self._tree().items() if text.encode("utf-8") in content]
            return "\n".join(hits) or "no file contains it"

        return commit

    def write_file(self, path: str, text: str) -> Commit:
        """Write a file."""
        return self._put(path, text.encode("utf-8"))

    def edit_file(self, path: str, old: str, new: str) -> Commit:
        """Replace a text that stands once in a file."""
        text = self._text(path)
        if _plain(path) in self._stale:
            raise ToolError(f"{_plain(path)} was changed after it was read, read it again")
        if not old or text.count(old) != 1:
            raise ToolError(f"the old text stands {text.count(old) if old else 0} times in {path}, not once")
        return self._put(path, text.replace(old, new).encode("utf-8"))

    def write_number(self, path: str, offset: int, size: int, order: str, value: int) -> Commit:
        """Write a whole number of so many bytes over those of a binary file; order is big or little."""
        self._bytes(path, offset, size)
        content = self._file(path).read_bytes()
        try:
            number = value.to_bytes(size, _order(size, order))
        except OverflowError:
            raise ToolError(f"the value is no number of {size} bytes") from None
        return self._put(path, content[:offset] + number + content[offset + size :])

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

    def delete_file(self, path: str) -> Commit:
        """Delete a file."""
        place = self._file(path)
        self._check_writable(path)

        def commit() -> JsonValue:
            place.unlink()
            if _plain(path) == self._in_the_way:
                self._in_the_way = None
            return "ok"

        return commit

    def convert_file(self, source: str, target: str) -> Commit:
        """Convert a table between CSV, JSON, TOML and XML."""
        text = convert_text(self._text(source), PurePosixPath(source).suffix, PurePosixPath(target).suffix)
        return self._put(target, text.encode("utf-8"))

    def change_encoding(self, path: str, old: str, new: str) -> Commit:
        """Change the encoding of a text file: utf-8, cp949 or utf-16."""
        return self._put(path, change_encoding(self._file(path).read_bytes(), old, new))

    def add_to_zip(self, path: str, archive: str) -> Commit:
        """Add a file to a zip archive, which is made if there is none."""
        content, place = self._file(path).read_bytes(), self._place(archive)
        members = read_zip(place.read_bytes()) if place.is_file() else {}
        name = PurePosixPath(path).name
        if name in members:
            raise ToolError(f"{name} is in {archive} already")
        return self._put(archive, write_zip({**members, name: content}))

    def extract_file(self, archive: str, name: str, target: str) -> Commit:
        """Copy a file out of a zip archive."""
        members = read_zip(self._file(archive).read_bytes())
        if name not in members:
            raise ToolError(f"not in {archive}: {name[:100]}")
        return self._put(target, members[name])

    def unzip_file(self, archive: str, folder: str) -> Commit:
        """Unpack a whole zip archive into a folder."""
        members = {
            PurePosixPath(folder, name): each for name, each in read_zip(self._file(archive).read_bytes()).items()
        }
        if any(parent in members for path in members for parent in path.parents):
            raise ToolError("the archive holds a file and a folder of one name")
        # Every member is checked like a path that the model gives, so none leads out.
        commits = [self._put(str(path), content, len(members)) for path, content in members.items()]

        def commit() -> JsonValue:
            for each in commits:
                each()
            return f"{len(commits)} files"

        return commit

    def set_permissions(self, path: str, mode: str) -> Commit:
        """Set the permissions of a file in octal, such as 640."""
        place = self._file(path)
        if not re.fullmatch("[4-7][0-7][0-7]", mode, re.ASCII):
            raise ToolError(f"permissions are three octal digits that let the owner read, got {mode[:40]!r}")

        def commit() -> JsonValue:
            place.chmod(int(mode, 8))
            return "ok"

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

    def mount_folder(self, path: str) -> Commit:
        """Mount a folder that is not mounted."""
        if _plain(path) not in self._unmounted:
            raise ToolError(f"not unmounted: {path[:100]}")

        def commit() -> JsonValue:
            self._unmounted.discard(_plain(path))
            return "ok"

        return commit

    # What the tools are made of.

    def _place(self, path: str) -> Path:
        """The place of a path in the folder; refuses every way out of it, and what cannot be reached now."""
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts:
            raise ToolError(f"outside the workspace: {path[:100]}")
        if len(pure.parts) > _MAX_DEPTH or any(len(part.encode("utf-8")) > 255 for part in pure.parts):
            raise ToolError("the path is too long")
        place = self._root
        for part in pure.parts:
            if place.is_file():
                raise ToolError(f"a file stands where a folder is needed: {path}")
            place /= part
            if place.is_symlink():
                raise ToolError(f"symbolic links are not allowed: {path}")
        if pure.parts and pure.parts[0] in self._unmounted:
            raise ToolError(f"not mounted: {pure.parts[0]}")
        if self.is_locked(str(pure)):
            left_s = round(self._free_at_s[str(pure)] - self.clock_s)
            raise ToolError(f"locked by another program: {pure}, wait {left_s} seconds")
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

    def _text(self, path: str) -> str:
        try:
            return self._file(path).read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            raise ToolError(f"no text in utf-8: {path}") from None

    def _bytes(self, path: str, offset: int, count: int) -> bytes:
        content = self._file(path).read_bytes()
        if not (offset >= 0 and 1 <= count <= 64 and offset + count <= len(content)):
            raise ToolError(f"{path} has {len(content)} bytes; up to 64 of them can be read or written")
        return content[offset : offset + count]

    def _put(self, path: str, content: bytes, files: int = 1) -> Commit:
        """Check that a file can be written, which is one of so many; returns what writes it."""
        place = self._place(path)
        if place.is_dir():
            raise ToolError(f"is a folder: {path}")
        self._check_writable(path)
        if self._in_the_way is not None:
            raise ToolError(f"no space left, delete {self._in_the_way}")
        if len(content) > MAX_BYTES or files + sum(1 for _ in self._root.rglob("*")) > MAX_FILES:
            raise ToolError("there is no room for that much")

        def commit() -> JsonValue:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            return "ok"

        return commit

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

    def is_locked(self, path: str) -> bool:
        """True while another program uses the file."""
        return self.clock_s < self._free_at_s.get(path, 0)

    # Faults.

    def bring_about(self, kind: str, name: str, arguments: dict[str, Any]) -> None:
        """Lock, move, fill or change what the call is about."""
        p: Any = self.task.parameters
        path = _plain(next(arguments[key] for key in _OF_THERE if key in arguments))
        if kind == "not_found":
            self._move_away(path, f"{p['elsewhere']}/{PurePosixPath(path).name}")
        elif kind == "permission_denied":
            locked = self._root / self._changed_by_writing(arguments[_WRITTEN.get(name, "path")])[0]
            locked.chmod(locked.stat().st_mode & ~0o222)
        elif kind == "disk_full":
            self._in_the_way = f"{p['junk']}.tmp"
            (self._root / self._in_the_way).write_bytes(bytes(1000))
        elif kind == "locked":
            self._free_at_s[path] = self.clock_s + p["wait_s"]
        elif kind == "unmounted":
            self._unmounted.add(PurePosixPath(path).parts[0])
        elif path in self.made or path in self.before:
            self._stale.add(path)
            line = f"# {p['junk']}\n".encode()
            with (self._root / path).open("ab") as file:
                file.write(line)
            for files in (self.before, self.made):
                if path in files:
                    files[path] += line

    def _move_away(self, path: str, new: str) -> None:
        """Somebody else moves a file of the task; what the task asks of it moves along."""
        if path not in self.before or (self._root / new).exists():
            return
        (self._root / new).parent.mkdir(exist_ok=True)
        (self._root / path).rename(self._root / new)
        self._now_at[path] = new
        places: tuple[dict[str, Any], ...] = (self.before, self.made, self.modes)
        for files in places:
            if path in files:
                files[new] = files.pop(path)
        if path in self.gone:
            self.gone.remove(path)
            self.gone.add(new)

    # The verdict.

    def _tree(self) -> dict[str, bytes]:
        """Every file by path, sorted; a link counts as empty."""
        tree: dict[str, bytes] = {}
        for folder, _, names in os.walk(self._root):
            for name in names:
                place = Path(folder, name)
                tree[place.relative_to(self._root).as_posix()] = b"" if place.is_symlink() else place.read_bytes()
        return dict(sorted(tree.items()))

    def holds(self, path: str) -> bool:
        """Whether the goals of a file hold: what it says, and its permissions."""
        place = self._root / path
        if not place.is_file() or place.is_symlink():
            return False
        is_right = path not in self.made or same_content(path, place.read_bytes(), self.made[path])
        return is_right and self.modes.get(path) in (None, self._mode(path))

    def _mode(self, path: str) -> str:
        return f"{(self._root / path).stat().st_mode & 0o777:o}"

    def verdict(self) -> Verdict:
        """Judge the files as they are now; see the module's docstring."""
        tree = self._tree()
        goals = self.made.keys() | self.modes.keys()
        missing = [f"{path} is not as asked" for path in sorted(goals) if not self.holds(path)]
        damage = [f"{path} was left behind" for path in sorted(self.gone) if path in tree]
        for path, content in self.before.items():
            if path in self.gone or path in self.made:
                continue
            if tree.get(path) != content:
                damage.append(f"{path} is {'changed' if path in tree else 'missing'}")
            elif self.modes and path not in self.modes and self._mode(path) != "644":
                damage.append(f"{path} has other permissions")
        known = self.before.keys() | goals | {self._in_the_way}
        damage += [f"{path} is too many" for path in tree if path not in known]
        return score_to_verdict(len(goals), missing, damage)

    # The expert.

    def expert(self, history: Sequence[Action]) -> Move:
        """First put right what can be put right, then the first steps of the family that are not done."""
        if self.verdict().score == 1:
            return Move(None, answer=DONE)
        known = _history_to_known(history)
        move = self._repair(known) or self._next_step(known)
        if move is None or failed_in_a_row(history, str(move.command), move.input) > 2 or known.was_in_vain(move):
            return Move(None, answer=GIVEN_UP)
        return move

    def _next_step(self, known: _Known) -> Move | None:
        """What can be done of the first group that has something to do, as one turn."""
        seen = "\n".join([self.task.instruction, *known.seen, *known.moved.values()])
        for group in self.steps:
            moves = [known.now(move) for move in group if not self._is_done(known, move)]
            if moves := [move for move in moves if self._can(move) and _is_knowable(move, seen)]:
                return replace(moves[0], beside=tuple(moves[1:]))
        return None

    def _is_done(self, known: _Known, move: Move) -> bool:
        if move.command in _LOOKS:
            return (move.command, move.input) in known.done
        given = known.now(move).input
        if move.command == "add_to_zip":
            name, archive = PurePosixPath(given["path"]).name, self._root / given["archive"]
            try:
                there, asked = read_zip(archive.read_bytes())[name], read_zip(self.made[given["archive"]])[name]
            except (ToolError, LookupError, OSError):
                return False
            return same_content(name, there, asked)
        if move.command == "unzip_file":
            return all(self.holds(path) for path in self.made)
        return self.holds(str(given.get("target", given.get("path"))))

    def _can(self, move: Move) -> bool:
        try:
            self.check(str(move.command), move.input)
        except ToolError:
            return False
        return True

    def _repair(self, known: _Known) -> Move | None:
        """Out of a fault as its error told; write back what was read and then overwritten; undo moves, delete additions."""
        names = {tool.function.name for tool in self.task.tools}
        moves = [Move("mount_folder", {"path": path}) for path in known.unmounted if path in self._unmounted]
        moves += [Move("wait", {"seconds": seconds}) for path, seconds in known.locked if self.is_locked(path)]
        if known.in_the_way is not None and known.in_the_way == self._in_the_way:
            moves.append(Move("delete_file", {"path": self._in_the_way}))
        locked = [path for path in known.read_only if not self.is_writable(path) and path not in self.modes]
        moves += [Move("make_writable", {"path": path}) for path in locked]
        moves += [Move("read_file", {"path": path}) for path in known.stale if path in self._stale]
        tree = self._tree()
        for path, text in known.texts.items():
            home = known.now_at.get(path, path)
            is_fixed = self.before.get(home) == text.encode("utf-8") and home not in self.made and home not in self.gone
            if is_fixed and tree.get(home) not in (self.before[home], None):
                moves.append(Move("write_file", {"path": home, "text": text}))
        for path, now in known.moved.items():
            home = known.now_at.get(path, path)
            was_right = home in self.gone and now in self.made
            if now != home and not was_right and home in self.before and home not in self.gone:
                moves.append(Move("move_file", {"source": now, "target": home}))
        kept = {*self.before, *self.made, *self.modes, *known.moved.values()}
        moves += [Move("delete_file", {"path": path}) for path in sorted(known.written - kept)]
        return next((move for move in moves if move.command in names and self._can(move)), None)


def open(task: Task) -> FilesWorld:
    """The world of a task; nothing is on disk before it is entered."""
    return FilesWorld(task)


def _plain(path: str) -> str:
    return str(PurePosixPath(path))


def _to_bytes(content: Content) -> bytes:
    return content.encode("utf-8") if isinstance(content, str) else content


def _order(size: int, order: str) -> Any:
    if order not in ("big", "little") or not 1 <= size <= 8:
        raise ToolError("a number has 1 to 8 bytes, in the order 'big' or 'little'")
    return order


@dataclass
class _Known:
    """What a model can know after a history; files are named by the path they had at first."""

    seen: list[str] = field(default_factory=list)
    done: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Calls that worked."""
    texts: dict[str, str] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    """File -> where it is now, by the model's own moves and by what errors told."""
    now_at: dict[str, str] = field(default_factory=dict)
    """File -> where somebody else has moved it, as an error told."""
    written: set[str] = field(default_factory=set)
    read_only: list[str] = field(default_factory=list)
    unmounted: list[str] = field(default_factory=list)
    locked: list[tuple[str, int]] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    in_the_way: str | None = None

    def where(self, path: str) -> str:
        """Where a file is now, as far as is known."""
        return self.moved.get(path, path)

    def first(self, path: str) -> str:
        """The path that a file had at first."""
        return next((first for first, now in self.moved.items() if now == _plain(path)), _plain(path))

    def now(self, move: Move) -> Move:
        """The same call of files that were moved meanwhile."""
        given = {key: self.where(value) if key in _OF_THERE else value for key, value in move.input.items()}
        return Move(move.command, given)

    def was_in_vain(self, move: Move) -> bool:
        """Whether a call that changes something has worked so often that it will not help any more."""
        first = {key: self.first(value) if key in _OF_THERE else value for key, value in move.input.items()}
        return move.command not in (*_LOOKS, "wait") and self.done.count((str(move.command), first)) > 2


def _history_to_known(history: Sequence[Action]) -> _Known:
    known = _Known()
    for action in history:
        if action.error is not None:
            known.seen.append(action.error)
            _learn_from_error(known, action.error)
            continue
        known.seen.append(str(action.output))
        given = action.input
        if not isinstance(given, dict):
            continue
        first: dict[str, Any] = {
            key: known.first(str(value)) if key in _OF_THERE else value for key, value in given.items()
        }
        known.done.append((action.command, first))
        if action.command == "read_file":
            known.texts[first["path"]] = str(action.output)
        elif action.command == "move_file":
            known.moved[first["source"]] = _plain(str(given["target"]))
        elif action.command not in _LOOKS:
            known.written |= {_plain(str(given[key])) for key in ("path", "target", "archive") if key in given}
    return known


def _learn_from_error(known: _Known, error: str) -> None:
    if told := _NOW_AT.fullmatch(error):
        first = known.first(told[1])
        known.moved[first] = known.now_at[first] = told[2]
    elif told := _READ_ONLY.fullmatch(error):
        known.read_only.append(told[1])
    elif told := _FULL.fullmatch(error):
        known.in_the_way = told[1]
    elif told := _LOCKED.fullmatch(error):
        known.locked.append((told[1], int(told[2])))
    elif told := _UNMOUNTED.fullmatch(error):
        known.unmounted.append(told[1])
    elif told := _STALE.fullmatch(error):
        known.stale.append(told[1])


def _is_knowable(move: Move, seen: str) -> bool:
    """Whether every word of a call has been seen; the expert guesses nothing."""
    texts = [value for value in move.input.values() if isinstance(value, str)]
    return all(word in seen for text in texts for word in re.findall(r"\w+", text))


_FAMILY_OF = {family.name: family for family in FAMILIES}
TOOLS = {
    function.__name__: function_to_spec(function)
    for function in (
        FilesWorld.list_folder,
        FilesWorld.find_files,
        FilesWorld.read_file,
        FilesWorld.file_info,
        FilesWorld.read_bytes,
        FilesWorld.read_number,
        FilesWorld.list_zip,
        FilesWorld.search_text,
        FilesWorld.write_file,
        FilesWorld.edit_file,
        FilesWorld.write_number,
        FilesWorld.move_file,
        FilesWorld.delete_file,
        FilesWorld.convert_file,
        FilesWorld.change_encoding,
        FilesWorld.add_to_zip,
        FilesWorld.extract_file,
        FilesWorld.unzip_file,
        FilesWorld.set_permissions,
        FilesWorld.make_writable,
        FilesWorld.mount_folder,
        FilesWorld.wait,
    )
}


def tasks(split: Split, count: int, seed: int, *, short: bool = False) -> list[Task]:
    """`count` distinct tasks over all families, or those that have short tasks; the same for the same arguments."""
    return families_to_tasks(FAMILIES, TOOLS, world="files", split=split, count=count, seed=seed, short=short)
