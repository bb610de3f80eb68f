"""What only the expert of this world knows; see `benchmark/worlds/expert.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from benchmark.worlds.expert import Act, Expert, Pursued
from benchmark.worlds.world import Move

NO_TOOL = {"en": "No tool can do that.", "ko": "도구 없음: 할 수 있는 도구가 없습니다."}
"""What the expert says where none fits."""


class Notes(Pursued, Protocol):
    """What the expert asks of this world: its notes, as they were and as they are."""

    goals: dict[str, str]
    before: dict[str, str]
    notes: dict[str, str]

    def missing_notes(self) -> list[str]: ...

    def too_many(self) -> list[str]: ...


class OtherExpert(Expert[Notes]):
    """What only the expert of this world knows."""

    names: ClassVar = ("table",)

    def start(self) -> None:
        """Notes are remembered as they were when they were read first."""
        self.read: dict[str, str] = {}
        self.missing = set(self.world.missing_notes())

    def learn(self, command: str, given: Mapping[str, Any], output: Any) -> None:
        """Remember a note."""
        if command == "read_note":
            self.read.setdefault(str(given["name"]), str(output))

    def holds(self, act: Act) -> bool:
        """Whether a note is as asked."""
        return act.goal not in self.missing

    def answer(self) -> str | None:
        """Where no tool fits, to say so is the task."""
        return super().answer() if self.world.goals else NO_TOOL[self.world.task.language]

    def mend(self) -> Sequence[Move]:
        """Delete notes that are too many, and write back what was read and then overwritten."""
        before, notes = self.world.before, self.world.notes
        lost = [name for name, text in self.read.items() if before.get(name) == text != notes.get(name)]
        return [
            *(Move("delete_note", {"name": name}) for name in self.world.too_many()),
            *(Move("save_note", {"name": name, "text": before[name]}) for name in lost if name not in self.world.goals),
        ]
