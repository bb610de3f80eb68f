"""What only the expert of the files world knows; see `benchmark/worlds/expert.py`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Protocol

from benchmark.worlds.expert import Act, Expert, Pursued
from benchmark.worlds.files.families.family import LOOKS
from benchmark.worlds.files.file_formats import read_zip, same_content
from benchmark.worlds.files.troubles import THERE, plain
from benchmark.worlds.tools import Commit, ToolError
from benchmark.worlds.world import Move


class Folder(Pursued, Protocol):
    """What the expert asks of the files world."""

    root: Path
    before: dict[str, bytes]
    made: dict[str, bytes]
    modes: dict[str, str]
    gone: set[str]

    def tree(self) -> dict[str, bytes]: ...

    def holds(self, path: str) -> bool: ...

    def check(self, name: str, arguments: dict[str, Any]) -> Commit: ...


class FilesExpert(Expert[Folder]):
    """What only the expert of the files world knows. It uses no word that it has not seen."""

    names: ClassVar = THERE

    def start(self) -> None:
        """Nothing is read, moved or written yet."""
        self.texts: dict[str, str] = {}
        self.homes: dict[str, str] = {}
        """File -> where somebody else has moved it."""
        self.written: set[str] = set()

    def rename(self, old: str, new: str) -> None:
        """Somebody else has moved a file, and there it belongs."""
        self.homes[self.first(old)] = new
        super().rename(old, new)

    def first(self, name: str) -> str:
        """The path that a file had at the beginning."""
        return super().first(plain(name))

    def learn(self, command: str, given: Mapping[str, Any], output: Any) -> None:
        """Remember what was read, moved and written."""
        if command == "read_file":
            self.texts[self.first(given["path"])] = str(output)
        elif command == "move_file":
            super().rename(given["source"], plain(given["target"]))
        elif command not in LOOKS:
            self.written |= {plain(given[key]) for key in ("path", "target", "archive") if key in given}

    def holds(self, act: Act) -> bool:
        """Whether what a step makes is as asked."""
        world, given = self.world, self.call(act.command, act.input).input
        if act.command == "add_to_zip":
            name, archive = PurePosixPath(given["path"]).name, given["archive"]
            try:
                there = read_zip((world.root / archive).read_bytes())[name]
                return same_content(name, there, read_zip(world.made[archive])[name])
            except (ToolError, LookupError, OSError):
                return False
        if act.command == "unzip_file":
            return all(world.holds(path) for path in world.made)
        return world.holds(str(given.get("target", given.get("path"))))

    def mend(self) -> Sequence[Move]:
        """Write back what was read and then overwritten, undo moves, delete additions."""
        world, tree, moves = self.world, self.world.tree(), []
        for path, text in self.texts.items():
            home = self.homes.get(path, path)
            is_fixed = world.before.get(home) == text.encode("utf-8") and home not in {*world.made, *world.gone}
            if is_fixed and tree.get(home) not in (world.before[home], None):
                moves.append(Move("write_file", {"path": home, "text": text}))
        for path, now in self.called_now.items():
            home = self.homes.get(path, path)
            was_right = home in world.gone and now in world.made
            if now != home and not was_right and home in world.before and home not in world.gone:
                moves.append(Move("move_file", {"source": now, "target": home}))
        kept = {*world.before, *world.made, *world.modes, *self.called_now.values()}
        return [*moves, *(Move("delete_file", {"path": path}) for path in sorted(self.written - kept))]

    def can(self, move: Move) -> bool:
        """Whether a call would work as things are."""
        try:
            self.world.check(str(move.command), move.input)
        except ToolError:
            return False
        return True

    def possible(self, moves: list[Move]) -> Sequence[Move]:
        """What would work and says nothing that was not seen."""
        told = (action.error if action.error is not None else str(action.output) for action in self.history)
        seen = "\n".join([self.world.task.instruction, *told, *self.called_now.values()])
        return [move for move in moves if self.can(move) and _is_knowable(move, seen)]

    def is_vain(self, move: Move) -> bool:
        """Whether a call that changes something has worked so often that it will not help any more."""
        return move.command not in (*LOOKS, "wait") and self.worked[self.meant(str(move.command), move.input)] > 2


def _is_knowable(move: Move, seen: str) -> bool:
    """Whether every word of a call has been seen; the expert guesses nothing."""
    texts = [value for value in move.input.values() if isinstance(value, str)]
    return all(word in seen for text in texts for word in re.findall(r"\w+", text))
