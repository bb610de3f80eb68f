"""Tasks of other projects as tasks of a folder: fields map nearly one to one, and what does not is left out and counted."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from benchmark.worlds.own.tasks import TaskRow, share_values
from benchmark.worlds.own.tool_names import sounds_read_only
from core.config import describe_validation_error
from core.errors import UserError
from core.files import read_json
from core.json_lines import BadLine, read_jsonl

Project = Literal["tau2", "nemo-gym", "inspect", "harbor"]
_TRAIN_SHARE = 0.6


@dataclass
class Imported:
    """What became of a file."""

    rows: list[TaskRow] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    """Tasks that are none here, by reason."""
    changed: Counter[str] = field(default_factory=Counter)
    """Fields that have no place here, by what they were."""


class _LeftOut(Exception):
    """A task that cannot be one here, and why."""


def import_tasks(project: Project, file: Path, split: Literal["train", "test"] | None) -> Imported:
    """Read tasks of a project.

    Args:
        split: of all tasks; None takes the project's own split where one lies beside the file (tau2's split_tasks.json), and
            else gives six in ten to train, by the hash of their ids.

    Raises:
        UserError: the file cannot be read or holds no tasks of this project.
    """
    if project == "harbor":
        raise UserError("--from harbor: its tasks are Docker images with their own tests, and nothing here runs Docker")
    read = {"tau2": _from_tau2, "nemo-gym": _from_nemo_gym, "inspect": _from_inspect}[project]
    made = Imported()
    own_splits = _read_splits(file.with_name("split_tasks.json")) if project == "tau2" else {}
    for place, value in enumerate(_values(file)):
        try:
            row = read(value, place, made.changed)
            hashed = "train" if _point(row["id"]) < _TRAIN_SHARE else "test"
            own = split or own_splits.get(row["id"], hashed)
            made.rows.append(TaskRow.model_validate({"split": own, **row}))
        except _LeftOut as why:
            made.left_out[str(why)] += 1
        except ValidationError as error:
            raise UserError(f"{file}: task {place}: {describe_validation_error(error, TaskRow)}") from None
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{file}: task {place}: no task of {project}: {type(error).__name__}: {error}") from None
    _keep_a_fifth(made)
    made.rows, both = share_values(made.rows)
    if both:
        made.changed["values stand in both splits and are declared as shared"] += both
    return made


def _read_splits(file: Path) -> dict[str, str]:
    """The split of each task as tau2 has it, where the file is there and names both splits."""
    if not file.is_file():
        return {}
    splits = read_json(file)
    named = splits if isinstance(splits, dict) else {}
    return {_id("tau2", each): split for split in ("train", "test") for each in named.get(split) or ()}


def _keep_a_fifth(made: Imported) -> None:
    """Leave out tasks that an answer alone decides, beyond a fifth of all. Where all are such, check.py has to judge."""
    answered = [row.id for row in made.rows if row.expects == "no_change"]
    kept = (len(made.rows) - len(answered)) // 4  # one in five of all, which is what `tasks check` allows
    if len(answered) < len(made.rows) and len(answered) > kept:
        over = set(sorted(answered, key=_point)[kept:])
        made.rows = [row for row in made.rows if row.id not in over]
        made.left_out["an answer alone decides it, and a fifth of the tasks is such already"] += len(over)


def _values(file: Path) -> Iterator[Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read: {error}") from None
    if text.lstrip()[:1] == "[":
        try:
            yield from json.loads(text)
        except ValueError as error:
            raise UserError(f"{file}: not JSON: {error}") from None
        return
    for _, value in read_jsonl(file):
        if isinstance(value, BadLine):
            raise UserError(str(value))
        yield value


def _point(name: str) -> float:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") / 2**48


def _id(prefix: str, value: object) -> str:
    return re.sub(r"[\s/\\]+", "-", f"{prefix}-{value}")[:120]


def _from_tau2(task: dict[str, Any], place: int, changed: Counter[str]) -> dict[str, Any]:
    """A task of tau2: the user's whole scenario is the instruction, the actions of the agent are the solution."""
    told = (task.get("user_scenario") or {}).get("instructions") or ""
    if isinstance(told, dict):
        told = "\n\n".join(
            str(told[key]) for key in ("reason_for_call", "known_info", "task_instructions") if told.get(key)
        )
    criteria = task.get("evaluation_criteria") or {}
    start = task.get("initial_state") or {}
    if start.get("initialization_data"):
        raise _LeftOut("begins with data of its own (initial_state.initialization_data)")
    if start.get("message_history"):
        raise _LeftOut("begins in the middle of a talk (initial_state.message_history)")
    setup = [_call(each.get("func_name"), each.get("arguments")) for each in start.get("initialization_actions") or ()]
    actions = [each for each in criteria.get("actions") or () if each.get("requestor", "assistant") == "assistant"]
    solution = [_call(each["name"], each.get("arguments")) for each in actions]
    says = list(criteria.get("communicate_info") or ())
    if criteria.get("nl_assertions"):
        changed["nl_assertions (a judge decides them, here nobody does)"] += 1
    row: dict[str, Any] = {
        "id": _id("tau2", task["id"]),
        "instruction": told,
        "solution": solution,
        "setup": setup,
        "family": "tau2",
    }
    if all(sounds_read_only(call["name"]) or call["name"] in ("calculate", "think") for call in solution):
        if not says:
            raise _LeftOut("changes nothing and says nothing that could be looked for")
        return {**row, "says": says, "expects": "no_change"}
    if says:
        changed["communicate_info of tasks that the state decides"] += 1
    return row


def _call(name: Any, arguments: Any) -> dict[str, Any]:
    given = json.loads(arguments) if isinstance(arguments, str) else arguments
    return {"name": name, "arguments": given or {}}


def _from_nemo_gym(task: dict[str, Any], place: int, changed: Counter[str]) -> dict[str, Any]:
    """A row of NeMo-Gym: the last words of the user, and the calls of `ground_truth`."""
    asked = task["responses_create_params"]["input"]
    messages = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    instruction = next(_text(each.get("content")) for each in reversed(messages) if each.get("role") == "user")
    calls = task.get("ground_truth") or task.get("expected_calls") or ()
    if not calls or not all(isinstance(each, dict) and "name" in each for each in calls):
        raise _LeftOut("has no calls in ground_truth")
    if any(each.get("role") in ("system", "developer") for each in messages):
        changed["a system prompt (write it into world.yaml: system)"] += 1
    number = task.get("id", place)
    solution = [_call(each["name"], each.get("arguments")) for each in calls]
    family = str(task.get("category") or task.get("environment_name") or "nemo-gym")
    return {"id": _id("nemo-gym", number), "instruction": instruction, "solution": solution, "family": family}


def _from_inspect(sample: dict[str, Any], place: int, changed: Counter[str]) -> dict[str, Any]:
    """A sample of Inspect: its input is the instruction, its target what must be said."""
    asked = sample["input"]
    if isinstance(asked, list):
        asked = next(_text(each.get("content")) for each in reversed(asked) if each.get("role") == "user")
    target = sample.get("target")
    says = target if isinstance(target, list) else [target] if target not in (None, "") else []
    if not says:
        raise _LeftOut("has no target")
    for name in ("choices", "sandbox", "files", "setup"):
        if sample.get(name):
            raise _LeftOut(f"needs {name}")
    return {
        "id": _id("inspect", sample.get("id", place)),
        "instruction": asked,
        "says": says,
        "expects": "no_change",
        "family": "inspect",
    }


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content)
