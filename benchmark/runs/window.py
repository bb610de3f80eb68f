"""Which tasks a model's window can hold: those whose expert's longest prompt fits, and one more turn of the model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import JsonValue

from benchmark.agent.episodes import Try, run_tasks, show_examples
from benchmark.agent.policies import Expert
from benchmark.agent.transformers_model import Model
from benchmark.worlds.asking.user import needs
from benchmark.worlds.asking.world import ASK
from benchmark.worlds.kinds import WORLDS, Kind
from benchmark.worlds.own.kind import OwnKind
from benchmark.worlds.own.toolsets.toolset import ServersFault
from benchmark.worlds.own.world import fill_references
from benchmark.worlds.world import Task
from data.chats import Message, ToolCall
from data.trajectories import actions_to_messages, output_to_text

_EXPERTS_TURNS = 100
"""More than any task needs, faults included."""
_BEGINNING = 20
"""Characters of an output that an injected error quotes, or more."""


def within_window(
    model: Model, tries: Iterable[Try], beyond: list[Try], kinds: Mapping[str, Kind] = WORLDS
) -> Iterator[Try]:
    """The tries whose task the model's window can hold; the others go into `beyond`.

    Whether it can is decided by the expert's own way, one call a turn, faults and repairs included: its longest prompt and
    one more turn of the model have to fit. So it does not depend on what the model does. In a folder's world, where each run
    starts a server, that way is told from what the solution's calls gave in the twin whose state is expected.
    """
    fitting: dict[str, bool] = {}
    for attempt in tries:
        task = attempt.task
        if task.id not in fitting:
            kind = kinds[task.world]
            messages = solution_to_messages(kind, task) if isinstance(kind, OwnKind) else _experts_messages(task)
            fitting[task.id] = model.window is None or model.fits(show_examples(attempt, messages), task.tools)
        if fitting[task.id]:
            yield attempt
        else:
            beyond.append(attempt)


def _experts_messages(task: Task) -> list[Message]:
    [record] = run_tasks(Expert(), [task], label="expert", max_steps=_EXPERTS_TURNS)
    actions = [action.model_copy(update={"turn": None}) for action in record.action_sequence]
    return actions_to_messages(record.metadata, actions)


def solution_to_messages(kind: OwnKind, task: Task) -> list[Message]:
    """What a model reads and says that solves a task of a folder, up to its last words.

    A task without a solution, or one whose twin does not run, has its first prompt alone.
    """
    messages = [Message(role="system", content=task.system), Message(role="user", content=task.instruction)]

    def call(name: str, arguments: dict[str, Any], result: str) -> None:
        made = ToolCall(id=f"call_{len(messages)}", name=name, arguments=arguments)
        messages.append(Message(role="assistant", tool_calls=(made,)))
        messages.append(Message(role="tool", content=result, tool_call_id=made.id, name=name))

    if task.user is not None:
        answers = [need.say for need in needs(task.user, task.language)]
        for place, question in enumerate(task.user.questions):
            call(ASK.function.name, {"question": question}, answers[place] if place < len(answers) else "")
    row = kind.rows[task.id]
    try:
        outputs: tuple[JsonValue, ...] = kind.expected(row).outputs if row.solution else ()
    except ServersFault:
        return messages  # the try itself tells it
    seen: Counter[str] = Counter()
    for place, output in enumerate(outputs):
        name = row.solution[place].name
        given = fill_references(row.solution[place].arguments, row.solution, outputs[:place])
        for fault in task.faults:
            if (fault.tool, fault.nth) == (name, seen[name]):
                told = output_to_text(output)[:_BEGINNING]
                values = {"start": json.dumps(told, ensure_ascii=False), "seconds": 20}
                trouble = kind.troubles[fault.kind]
                call(name, given, f"Error: {trouble.text(values)}")
                if "{seconds}" in trouble.error:
                    call("wait", {"seconds": 20}, "ok")
        seen[name] += 1
        call(name, given, output_to_text(output))
    return messages
