"""Rollouts of RL environments, of which good ones are imitated: results of verifiers, and of NeMo Gym -> Chat.

* verifiers: `{"example_id", "prompt", "completion", "answer", "task", "reward", "info", "tool_defs"}`; the turns are
  OpenAI's, those of the prompt are context. Tools stand in `tool_defs`, or in `info` as `oai_tools`.
* NeMo Gym: `{"responses_create_params": {"input", "tools", ...}, "response": {"output": [...]}, "reward"}`, whose output holds
  the items of a whole run, results of tools among them.

`reward` is judged as in every format (data/formats/row_keys.py): 1 is good, 0 is bad, and of another number the user says from
where on it is good. The true answer beside it is not read, since the reward was computed from it.
"""

from __future__ import annotations

from typing import Any

from data.chats import Chat, Skip
from data.formats.adapter import Adapter
from data.formats.openai_logs import openai_responses_row
from data.formats.parts import Row, Unrepresentable, first_fit, row_id, skip_if_unrepresentable, value_in, with_columns
from data.formats.trl import trl_prompt_completion_row
from data.formats.turns import TURN_KEYS

_TRUTHS = frozenset({"answer", "ground_truth", "ground_truths", "verification_info", "expected_answer", "reward_model"})


def _tools_in(row: Row) -> Any:
    info = value_in(row.get("info"), "an info that is no JSON")
    of_info = info.get("oai_tools") if isinstance(info, dict) else None
    return next(
        (tools for tools in (row.get("tool_defs"), row.get("tools"), row.get("oai_tools"), of_info) if tools), None
    )


@skip_if_unrepresentable
def verifiers_results_row(row: Row) -> Chat | Skip:
    """One rollout of verifiers; rollouts of one example are a group."""
    if row.get("error"):
        raise Unrepresentable("a rollout that failed")
    if row.get("is_truncated") is True:
        raise Unrepresentable("a rollout that was cut off")
    said = {key: row.get(key) for key in ("prompt", "completion")}
    own = row_id(row, "id", "trajectory_id")
    made: Chat | Skip = trl_prompt_completion_row({**said, "tools": _tools_in(row), "id": own})
    example = row.get("example_id")
    if isinstance(made, Skip) or isinstance(example, bool) or not isinstance(example, str | int):
        return made
    task = row.get("task")
    return made.model_copy(update={"group": f"{task}/{example}" if isinstance(task, str) and task else str(example)})


def _object_in(row: Row, column: str) -> Row:
    value = value_in(row.get(column), f"a {column} that is no JSON")
    if not isinstance(value, dict):
        raise Unrepresentable(f"a {column} that is no object")
    return value


@skip_if_unrepresentable
def nemo_gym_row(row: Row) -> Chat | Skip:
    """One rollout of NeMo Gym; rollouts of one task are a group."""
    asked, response = _object_in(row, "responses_create_params"), _object_in(row, "response")
    ended = {key: response.get(key) for key in ("output", "status", "error")}
    said = {key: asked.get(key) for key in ("instructions", "input", "tools")}
    made: Chat | Skip = openai_responses_row({**said, **ended, "id": row_id(row)})
    task = row.get("_ng_task_index")
    if isinstance(made, Skip) or isinstance(task, bool) or not isinstance(task, int):
        return made
    return made.model_copy(update={"group": str(task)})


ADAPTERS = (
    Adapter(
        name="verifiers_results",
        kind="chat",
        function=verifiers_results_row,
        columns=(
            *("prompt", "completion", "task", "example_id", "info", "tool_defs", "tools", "oai_tools"),
            *("error", "is_truncated", "trajectory_id", "id"),
        ),
        harmless=_TRUTHS,
        matches=first_fit(
            with_columns("prompt", "completion", "reward", "example_id"),
            with_columns("prompt", "completion", "answer", "reward", "task"),
        ),
        turns=("prompt", "completion"),
        turn_keys=TURN_KEYS,
        schema="recalled",
        note="results.jsonl of an evaluation. The reward is judged; 1 is good, and --good-from reward=NUMBER says more.",
    ),
    Adapter(
        name="nemo_gym_rollouts",
        kind="chat",
        function=nemo_gym_row,
        columns=("responses_create_params", "response", "_ng_task_index", "id"),
        harmless=_TRUTHS,
        matches=with_columns("responses_create_params", "response"),
        schema="recalled",
        note="rollouts.jsonl of NeMo Gym. The reward is judged; 1 is good, and --good-from reward=NUMBER says more.",
    ),
)
