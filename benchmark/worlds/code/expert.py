"""The expert of the code world: the steps of its plans, and what only it knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from benchmark.worlds.code.goals import Goal
from benchmark.worlds.expert import Expert, Pursued
from benchmark.worlds.world import Move


class Project(Pursued, Protocol):
    """What the expert asks of the code world."""

    files: dict[str, bytes]
    before: dict[str, bytes]

    @property
    def confirms(self) -> bool:
        """Whether it ends with tests that pass."""
        ...

    @property
    def goal_paths(self) -> set[str]: ...

    def missing_goals(self) -> list[Goal]: ...

    def text_at(self, path: str) -> str | None: ...


@dataclass(frozen=True)
class PutRight:
    """Make goals hold; `at_once` all of them in one turn."""

    at_once: bool = False

    def next(self, expert: CodeExpert) -> Sequence[Move]:
        """What puts right the goals that do not hold."""
        moves = [_put_right(expert.world, goal) for goal in expert.world.missing_goals()]
        return moves if self.at_once else moves[:1]


@dataclass(frozen=True)
class RunTests:
    """See that the tests pass, once."""

    def next(self, expert: CodeExpert) -> Sequence[Move]:
        """The call, unless it was the last."""
        return [] if expert.has_tested else [Move("run_tests")]


def _put_right(world: Project, goal: Goal) -> Move:
    """An edit of one line where that is enough, with as many lines before it as tell it apart; else the whole text."""
    text = world.text_at(goal.path)
    now, wanted = (text or "").splitlines(), goal.text.splitlines()
    # What somebody has added at the end is kept.
    wrong = [place for place, line in enumerate(wanted) if now[place : place + 1] != [line]]
    can_edit = any(tool.function.name == "edit_file" for tool in world.task.tools)
    if can_edit and text is not None and len(wrong) == 1 and wrong[0] < len(now):
        place = wrong[0]
        for first in range(place, -1, -1):
            old, new = ("\n".join(lines[first : place + 1]) for lines in (now, wanted))
            common = len(old) - len(old.lstrip()) if first == place else 0
            if text.count(old[common:]) == 1 and new[:common].isspace() == bool(common):
                return Move("edit_file", {"path": goal.path, "old": old[common:], "new": new[common:]})
    return Move("write_file", {"path": goal.path, "text": goal.text})


class CodeExpert(Expert[Project]):
    """What only the expert of the code world knows."""

    names: ClassVar = ("path",)

    def start(self) -> None:
        """Files are remembered as they were read last."""
        self.texts: dict[str, str] = {}
        self.last = self.history[-1] if self.history else None
        self.has_tested = self.last is not None and self.last.command == "run_tests" and self.last.error is None

    def learn(self, command: str, given: Mapping[str, Any], output: Any) -> None:
        """Remember a text."""
        if command == "read_file":
            self.texts[str(given["path"])] = str(output)

    def answer(self) -> str | None:
        """Where tests are to pass, they have been seen to."""
        is_confirmed = self.has_tested or not self.world.confirms
        return super().answer() if is_confirmed else None

    def mend(self) -> Sequence[Move]:
        """What was read and is no goal goes back to what it was."""
        world = self.world
        homes = {self.now(path): text for path, text in self.texts.items()}
        kept = {path: text for path, text in homes.items() if path not in world.goal_paths}
        return [
            Move("write_file", {"path": path, "text": text})
            for path, text in kept.items()
            if world.before.get(path) == text.encode("utf-8") and world.text_at(path) != text
        ]

    def possible(self, moves: list[Move]) -> Sequence[Move]:
        """Files that are not there cannot be looked at."""
        looks = ("read_file", "run_file")
        return [move for move in moves if move.command not in looks or move.input["path"] in self.world.files]
