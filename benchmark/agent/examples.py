"""Examples before a task: the training records whose instructions are nearest to it, as earlier turns of the chat.

This is the baseline that fine-tuning has to beat. Near is meant by words: BM25 over what `data.curation.text` calls words,
where two neighbouring syllables of Korean make one term, as in search engines. So 보고서를 finds 보고서, wherever spaces stand.

Shown are successes that ended with an answer. Never shown is a record of the task itself, under whatever name; a file that
holds a record of the test split is refused.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from benchmark.worlds.world import Task
from core.errors import UserError
from core.files import file_sha256
from data.chats import Message
from data.curation.text import is_syllable, split_words
from data.records import Outcome, Trajectory, read_trajectories
from data.trajectories import trajectory_to_turns

_K1, _B = 1.2, 0.75
"""Of BM25 (Robertson and Zaragoza 2009), as search engines set them."""
_TEST_GROUP = re.compile(r".*-test-\d+-\d+(-.*)?")
"""How the ids of our own test tasks look; a record may have lost its `metadata.task` on its way."""


def instruction_to_terms(text: str) -> list[str]:
    """The terms in which instructions are compared: words, and pairs of syllables; a syllable alone is a term, too."""
    words = split_words(text)
    syllables = [is_syllable(word) for word in words]
    pairs = [a + b for (a, b), both in zip(pairwise(words), pairwise(syllables), strict=True) if all(both)]
    alone = [
        word
        for place, word in enumerate(words)
        if not (syllables[place] and any(syllables[max(place - 1, 0) : place] + syllables[place + 1 : place + 2]))
    ]
    return alone + pairs


class Examples:
    """Records that can be shown before tasks.

    Args:
        records: of any outcome; those that show no way to success are left out.
        sha256: of the file that they came from.
    """

    def __init__(self, records: Sequence[Trajectory], *, sha256: str) -> None:
        self.records = [record for record in records if _shows_success(record)]
        self.sha256 = sha256
        self._words = [split_words(record.metadata.instruction or "") for record in self.records]
        terms = [Counter(instruction_to_terms(record.metadata.instruction or "")) for record in self.records]
        sizes = [each.total() for each in terms]
        mean = sum(sizes) / len(sizes) if sizes else 1.0
        self._weights: dict[str, dict[int, float]] = defaultdict(dict)
        """By term: what it adds to the score of each record that holds it."""
        for place, counts in enumerate(terms):
            scale = _K1 * (1 - _B + _B * sizes[place] / mean)
            for term, count in counts.items():
                self._weights[term][place] = count * (_K1 + 1) / (count + scale)
        for of_term in self._weights.values():
            rarity = math.log(1 + (len(terms) - len(of_term) + 0.5) / (len(of_term) + 0.5))
            for place in of_term:
                of_term[place] *= rarity

    def nearest(self, task: Task, count: int) -> tuple[Trajectory, ...]:
        """Up to `count` records for a task, the nearest last; of two that are as near, the earlier in the file is nearer.

        There are fewer where fewer are of other tasks.
        """
        scores = [0.0] * len(self.records)
        for term, times in Counter(instruction_to_terms(task.instruction)).items():
            for place, weight in self._weights.get(term, {}).items():
                scores[place] += times * weight
        words = split_words(task.instruction)
        fitting = [
            place
            for place, record in enumerate(self.records)
            if task.id not in _tasks_of(record) and self._words[place] != words
        ]
        best = sorted(fitting, key=lambda place: -scores[place])[:count]
        return tuple(self.records[place] for place in reversed(best))


def read_examples(path: Path, *, shots: int) -> Examples:
    """The examples of a file of trajectories.

    Raises:
        UserError: at a bad line or a record of the test split, or if fewer than `shots` records can be shown.
    """
    records = []
    for record in read_trajectories(path):
        if _is_of_test_split(record):
            raise UserError(
                f"{path}: record {record.id!r} is of the test split, whose tasks are never shown before others; "
                "give records of the train split"
            )
        records.append(record)
    examples = Examples(records, sha256=file_sha256(path))
    if len(examples.records) < shots:
        raise UserError(
            f"--examples {path}: {len(examples.records)} of its {len(records)} records can be shown (successes with an "
            f"instruction and an answer), --shots {shots} needs {shots}"
        )
    return examples


def examples_to_messages(records: Sequence[Trajectory]) -> list[Message]:
    """The turns of records as earlier turns of a chat. Ids of calls are those of their places, so none comes twice."""
    messages = []
    for number, record in enumerate(records):
        for message in trajectory_to_turns(record):
            if message.role == "system":
                continue
            calls = tuple(call.model_copy(update={"id": f"example_{number}_{call.id}"}) for call in message.tool_calls)
            answered = message.tool_call_id and f"example_{number}_{message.tool_call_id}"
            messages.append(message.model_copy(update={"tool_calls": calls, "tool_call_id": answered}))
    return messages


def _shows_success(record: Trajectory) -> bool:
    metadata = record.metadata
    return record.outcome is Outcome.SUCCESS and bool(metadata.instruction) and bool(metadata.answer)


def _tasks_of(record: Trajectory) -> set[object]:
    """Every name under which a record's task may stand in it."""
    task = (record.metadata.model_extra or {}).get("task")
    return {record.metadata.group, record.id, *([task.get("id")] if isinstance(task, dict) else [])}


def _is_of_test_split(record: Trajectory) -> bool:
    extra = record.metadata.model_extra or {}
    task = extra.get("task")
    splits = [extra.get("split"), task.get("split") if isinstance(task, dict) else None]
    named = any(isinstance(name, str) and _TEST_GROUP.fullmatch(name) for name in _tasks_of(record))
    return "test" in splits or named
