"""Files: a real temporary folder, worked on by path. The families of its tasks are in `families/`.

Paths are relative to that folder. Absolute paths, `..` and symbolic links are errors, and so is an archive whose members lead
out; no output ever holds the path of the folder itself. Write permission is checked from the mode bits by the tools, because
a process that runs as root could write anyway.

Its faults stand in `troubles.py`.

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
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from pydantic import JsonValue

from benchmark.worlds.family import WorldKind
from benchmark.worlds.files.expert import FilesExpert
from benchmark.worlds.files.families import FAMILIES
from benchmark.worlds.files.families.family import Content
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
from benchmark.worlds.files.troubles import PATHS, TROUBLES, plain
from benchmark.worlds.tools import (
    Called,
    Commit,
    ToolError,
    ToolWorld,
    score_to_verdict,
)
from benchmark.worlds.troubles import Values
from benchmark.worlds.world import Move, Task, Verdict
from data.records import Action, Category

_MEMORY = Path("/dev/shm")
"""Files in memory, where the system has such and TMPDIR does not say otherwise: a busy disk takes 10 ms to remove a folder."""
_WRITABLE = 0o200
_MAX_DEPTH = 12

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

    troubles: ClassVar = TROUBLES

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.plan = plan = FILES.family_of(task).plan(task)
        self.before: dict[str, bytes] = {path: _to_bytes(content) for path, content in plan.before.items()}
        """The files that are there at the start (with the changes that faults make), by path."""
        self.made: dict[str, bytes] = {path: _to_bytes(content) for path, content in plan.goals.items()}
        """The files that must be new or changed at the end."""
        self.modes: dict[str, str] = dict(plan.modes)
        """File -> the permissions that it must have at the end, in octal; empty where they are nobody's business."""
        self.gone = set(plan.gone)
        """The files that must have been moved away."""
        self._now_at: dict[str, str] = {}

    def __enter__(self) -> FilesWorld:
        in_memory = "TMPDIR" not in os.environ and os.access(_MEMORY, os.W_OK | os.X_OK)
        self._folder = tempfile.TemporaryDirectory(prefix="files-world-", dir=_MEMORY if in_memory else None)
        self.root = Path(self._folder.name)
        for path, content in self.before.items():
            place = self.root / path
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
            hits = [path for path in self.tree() if fnmatchcase(PurePosixPath(path).name, pattern)]
            return "\n".join(hits) or "no file has such a name"

        return commit

    def read_file(self, path: str) -> Commit:
        """Read a file."""
        text = self._text(path)
        return lambda: text

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
            hits = [path for path, content in self.tree().items() if text.encode("utf-8") in content]
            return "\n".join(hits) or "no file contains it"

        return commit

    def write_file(self, path: str, text: str) -> Commit:
        """Write a file."""
        return self._put(path, text.encode("utf-8"))

    def edit_file(self, path: str, old: str, new: str) -> Commit:
        """Replace a text that stands once in a file."""
        text = self._text(path)
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
        if {"folder": plain(path)} not in self.standing("unmounted"):
            raise ToolError(f"not unmounted: {path[:100]}")
        return lambda: "ok"

    # What the tools are made of.

    def _place(self, path: str) -> Path:
        """The place of a path in the folder; refuses every way out of it."""
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts:
            raise ToolError(f"outside the workspace: {path[:100]}")
        if len(pure.parts) > _MAX_DEPTH or any(len(part.encode("utf-8")) > 255 for part in pure.parts):
            raise ToolError("the path is too long")
        place = self.root
        for part in pure.parts:
            if place.is_file():
                raise ToolError(f"a file stands where a folder is needed: {path}")
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
        now_at = self._now_at.get(plain(path))
        return ToolError(f"not found: {path}") if now_at is None else self.error("not_found", path=path, now=now_at)

    def plain(self, name: str, value: Any) -> Any:
        """Paths without what means nothing."""
        return plain(value) if name in PATHS else value

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
        if len(content) > MAX_BYTES or files + sum(1 for _ in self.root.rglob("*")) > MAX_FILES:
            raise ToolError("there is no room for that much")

        def commit() -> JsonValue:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            return "ok"

        return commit

    def _changed_by_writing(self, path: str) -> list[str]:
        """What has to be writable for a change at `path`: the thing itself, if it is there, and the folder it is in."""
        pure = PurePosixPath(path)
        there = [pure] if (self.root / pure).exists() else []
        there += [next(parent for parent in pure.parents if (self.root / parent).exists())]
        return [str(each) for each in there]

    def _check_writable(self, path: str) -> None:
        for each in self._changed_by_writing(path):
            if not self.is_writable(each):
                raise self.error("permission_denied", path=each)

    def is_writable(self, path: str) -> bool:
        """True unless the path is there and its mode bits forbid its owner to write."""
        place = self.root / path
        return not place.exists() or bool(place.stat().st_mode & _WRITABLE)

    # What faults do.

    def make_read_only(self, called: Called) -> None:
        """What a call would change, or the folder of a new file, becomes read-only."""
        changed = self._changed_by_writing(called.given[_WRITTEN.get(called.name, "path")])[0]
        place = self.root / changed
        place.chmod(place.stat().st_mode & ~0o222)

    def fill(self) -> Values:
        """A file takes up all the room."""
        path = f"{self.task.parameters['junk']}.tmp"
        (self.root / path).write_bytes(bytes(1000))
        return {"path": path}

    def add_line(self, path: str) -> Values:
        """Somebody else adds a line to a file of the task, and it has to stay."""
        line = f"# {self.task.parameters['junk']}\n".encode()
        with (self.root / path).open("ab") as file:
            file.write(line)
        for files in (self.before, self.made):
            if path in files:
                files[path] += line
        return {"path": path}

    def move_away(self, path: str) -> None:
        """Somebody else moves a file of the task; what the task asks of it moves along."""
        new = f"{self.task.parameters['elsewhere']}/{PurePosixPath(path).name}"
        if (self.root / new).exists():
            return
        (self.root / new).parent.mkdir(exist_ok=True)
        (self.root / path).rename(self.root / new)
        self._now_at[path] = new
        places: tuple[dict[str, Any], ...] = (self.before, self.made, self.modes)
        for files in places:
            if path in files:
                files[new] = files.pop(path)
        if path in self.gone:
            self.gone.remove(path)
            self.gone.add(new)

    # The verdict.

    def tree(self) -> dict[str, bytes]:
        """Every file by path, sorted; a link counts as empty."""
        tree: dict[str, bytes] = {}
        for folder, _, names in os.walk(self.root):
            for name in names:
                place = Path(folder, name)
                tree[place.relative_to(self.root).as_posix()] = b"" if place.is_symlink() else place.read_bytes()
        return dict(sorted(tree.items()))

    def holds(self, path: str) -> bool:
        """Whether the goals of a file hold: what it says, and its permissions."""
        place = self.root / path
        if not place.is_file() or place.is_symlink():
            return False
        is_right = path not in self.made or same_content(path, place.read_bytes(), self.made[path])
        return is_right and self.modes.get(path) in (None, self._mode(path))

    def _mode(self, path: str) -> str:
        return f"{(self.root / path).stat().st_mode & 0o777:o}"

    def verdict(self) -> Verdict:
        """Judge the files as they are now; see the module's docstring."""
        tree = self.tree()
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
        known = {*self.before, *goals, *(values["path"] for values in self.standing("disk_full"))}
        damage += [f"{path} is too many" for path in tree if path not in known]
        return score_to_verdict(len(goals), missing, damage)

    def expert(self, history: Sequence[Action]) -> Move:
        """Put right what can be put right, then the first steps of the plan that are not done."""
        return FilesExpert(self, history).move()


def _to_bytes(content: Content) -> bytes:
    return content.encode("utf-8") if isinstance(content, str) else content


def _order(size: int, order: str) -> Any:
    if order not in ("big", "little") or not 1 <= size <= 8:
        raise ToolError("a number has 1 to 8 bytes, in the order 'big' or 'little'")
    return order


FILES = WorldKind("files", Category.FILE_OPS, "2", FAMILIES, FilesWorld)
