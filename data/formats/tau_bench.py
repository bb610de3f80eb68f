"""tau-bench and tau2-bench: recorded dialogues of an agent, a simulated user and a database -> Chat.

* tau-bench: `{"task_id", "trial", "reward", "info", "traj": [OpenAI messages]}`, one object a run.
* tau2-bench and tau3: `{"info", "tasks", "simulations": [{"id", "task_id", "trial", "reward_info", "termination_reason",
  "messages"}]}`, one object a file, or one simulation a row. Calls are `{"id", "name", "arguments", "requestor"}`.

A run whose reward is 1 succeeded; any other is a failure, and only the asked `outcomes` are imitated. The definitions of
the tools are not in the records, so the chats have none; nor is the policy in tau2's messages, which is taken from
`info.environment_info.policy` where the file has it. All runs of a task are one group.

A call that failed stays as context with weight 0, as in our own trajectories, so that its repair is learned and it is not: in
tau-bench a result that starts with "Error", in tau2 one that says `"error": true`.

The simulated user ends a dialogue by a mark ("###STOP###"): the mark is the simulator's and no word of a user, so it is cut
off, and a turn that holds nothing else is dropped. In tau2 the user may call tools too; a chat has no turn for that, so such
a run is left out.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from data.chats import Chat, Skip
from data.formats.adapter import Adapter, Terms
from data.formats.parts import (
    SUCCESS,
    Conversation,
    LoggedRun,
    Row,
    Unrepresentable,
    arguments_of,
    objects_in,
    require_outcome,
    row_id,
    skip_if_unrepresentable,
    text_of,
    unknown_role,
    with_columns,
)
from data.records import Outcome

ALL = frozenset(Outcome)
_MARK = re.compile(r"\s*###(?:STOP|TRANSFER|OUT-OF-SCOPE)###\s*")


def _text_or_null(value: Any) -> str | None:
    if not isinstance(value, str | None):
        raise Unrepresentable("a result whose id or name is no text")
    return value or None


def _call_of(call: Any) -> tuple[str | None, str, dict[str, Any]]:
    """A call in OpenAI's wrapping (tau-bench) or bare (tau2-bench)."""
    if not isinstance(call, dict):
        raise Unrepresentable("a call that is no object")
    if call.get("requestor", "assistant") != "assistant":
        raise Unrepresentable("a call that the user makes")
    function = call.get("function", call)
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise Unrepresentable("a call without a name")
    return _text_or_null(call.get("id")), function["name"], arguments_of(function.get("arguments"))


class _Dialogue(Conversation):
    """A conversation that also notes which calls failed, and when results came in."""

    def __init__(self) -> None:
        super().__init__()
        self.failed: set[str] = set()
        self.ended: dict[str, datetime] = {}

    def run(self, *, id: str, group: str, won: bool) -> LoggedRun:
        outcome = Outcome.SUCCESS if won else Outcome.FAILURE
        return LoggedRun(self.chat(id=id, group=group), outcome, frozenset(self.failed), self.ended)


def _time(value: Any) -> datetime | None:
    """A message's timestamp; tau2 writes them without a zone."""
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _answer(conversation: _Dialogue, result: Row) -> None:
    if result.get("requestor", "assistant") != "assistant":
        raise Unrepresentable("a call that the user makes")
    text = text_of(result.get("content"))
    own_id = _text_or_null(result.get("tool_call_id", result.get("id")))
    call = conversation.answer(text, own_id=own_id, name=_text_or_null(result.get("name")))
    if (ended := _time(result.get("timestamp"))) is not None:
        conversation.ended[call.id] = ended
    if result.get("error", text.startswith("Error")):
        conversation.failed.add(call.id)
        messages = conversation.messages
        caller = max(index for index, message in enumerate(messages) if message.role == "assistant")
        messages[caller] = messages[caller].model_copy(update={"weight": 0.0})


def _said(messages: list[Row], policy: str | None) -> _Dialogue:
    conversation = _Dialogue()
    if policy is not None and messages[0].get("role") != "system":
        conversation.say("system", policy)
    for message in messages:
        role, calls = message.get("role"), message.get("tool_calls") or []
        if not isinstance(calls, list):
            raise Unrepresentable("tool_calls are no list")
        if role == "tool":
            bundle = message.get("tool_messages")  # tau2 may bundle the results of one turn
            for result in [message] if bundle is None else objects_in(bundle, "tool_messages"):
                _answer(conversation, result)
        elif role == "assistant":
            conversation.say("assistant", text_of(message.get("content")), calls=[_call_of(call) for call in calls])
        elif role == "user":
            if calls:
                raise Unrepresentable("a call that the user makes")
            text = text_of(message.get("content"))
            kept = _MARK.sub("", text)
            if kept or kept == text:
                conversation.say("user", kept)
        elif role == "system":
            conversation.say("system", text_of(message.get("content")))
        else:
            raise unknown_role(role)
    return conversation


def _succeeded(reward: Any) -> bool:
    if isinstance(reward, bool) or not isinstance(reward, int | float):
        raise Unrepresentable("a run without a reward")
    return reward >= 1 - 1e-6  # tau-bench's own test of success


@skip_if_unrepresentable
def _run(row: Row, outcomes: frozenset[Outcome]) -> LoggedRun:
    won = _succeeded(row.get("reward"))
    require_outcome(won, outcomes)
    task = row_id(row, "task_id")
    dialogue = _said(objects_in(row.get("traj"), "messages"), None)
    return dialogue.run(id=f"{task}#{row.get('trial', 0)}", group=task, won=won)


@skip_if_unrepresentable
def _simulation(row: Row, policy: str | None, outcomes: frozenset[Outcome]) -> LoggedRun:
    judged = row.get("reward_info")
    won = _succeeded(judged.get("reward") if isinstance(judged, dict) else None)
    require_outcome(won, outcomes)
    dialogue = _said(objects_in(row.get("messages"), "messages"), policy)
    return dialogue.run(id=row_id(row), group=row_id(row, "task_id"), won=won)


def tau_bench_runs(row: Row, *, outcomes: frozenset[Outcome] = ALL) -> list[LoggedRun | Skip]:
    """One run of tau-bench."""
    return [_run(row, outcomes)]


def tau2_bench_runs(row: Row, *, outcomes: frozenset[Outcome] = ALL) -> list[LoggedRun | Skip]:
    """All simulations of a results file, or one simulation."""
    simulations = row.get("simulations")
    if not isinstance(simulations, list) or not simulations:
        return [_simulation(row, None, outcomes)]
    policy: Any = row
    for key in ("info", "environment_info", "policy"):
        policy = policy.get(key) if isinstance(policy, dict) else None
    known = policy if isinstance(policy, str) else None
    return [
        _simulation(one, known, outcomes) if isinstance(one, dict) else Skip("a simulation that is no object")
        for one in simulations
    ]


def tau_bench_row(row: Row, *, outcomes: frozenset[Outcome] = SUCCESS) -> list[Chat | Skip]:
    """One run of tau-bench, as a chat to imitate."""
    return _chats(tau_bench_runs(row, outcomes=outcomes))


def tau2_bench_row(row: Row, *, outcomes: frozenset[Outcome] = SUCCESS) -> list[Chat | Skip]:
    """All simulations of a results file, or one simulation, as chats to imitate."""
    return _chats(tau2_bench_runs(row, outcomes=outcomes))


def _chats(runs: list[LoggedRun | Skip]) -> list[Chat | Skip]:
    return [run if isinstance(run, Skip) else run.chat for run in runs]


TAU_BENCH_TURN = frozenset({
    "role", "content", "tool_calls", "tool_messages", "tool_call_id", "id", "name", "error", "requestor", "timestamp",
})  # fmt: skip

ADAPTERS = (
    Adapter(
        name="tau_bench",
        kind="trajectory",
        function=tau_bench_row,
        runs=tau_bench_runs,
        columns=("traj", "reward", "task_id", "trial"),
        matches=with_columns("task_id", "reward", "traj", "trial"),
        turns=("traj",),
        turn_keys=TAU_BENCH_TURN,
        schema="real rows",
        note="historical_trajectories of sierra-research/tau-bench (GPT-4o among them). Reward below 1 is a failure.",
        terms=Terms(licence="mit", openai_derived=True),
    ),
    Adapter(
        name="tau2_bench",
        kind="trajectory",
        function=tau2_bench_row,
        runs=tau2_bench_runs,
        columns=("simulations", "info", "messages", "reward_info", "task_id", "id"),
        matches=with_columns("simulations", "tasks", "info"),
        turns=("simulations",),
        turn_keys=frozenset({"id", "task_id", "trial", "messages", "reward_info"}),
        schema="public pages",
        note="Results files of sierra-research/tau2-bench (GPT-4.1 and o4-mini among them). A user's calls are left out.",
        terms=Terms(openai_derived=True),
    ),
)
