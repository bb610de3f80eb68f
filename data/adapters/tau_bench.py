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
from typing import Any

from data.adapters.parts import (
    SUCCESS,
    Conversation,
    Row,
    Unrepresentable,
    arguments_of,
    objects_in,
    require_outcome,
    row_id,
    skip_if_unrepresentable,
    text_of,
)
from data.chats import Chat, Skip
from data.records import Outcome

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


def _answer(conversation: Conversation, result: Row) -> None:
    if result.get("requestor", "assistant") != "assistant":
        raise Unrepresentable("a call that the user makes")
    text = text_of(result.get("content"))
    own_id = _text_or_null(result.get("tool_call_id", result.get("id")))
    conversation.answer(text, own_id=own_id, name=_text_or_null(result.get("name")))
    if result.get("error", text.startswith("Error")):
        messages = conversation.messages
        caller = max(index for index, message in enumerate(messages) if message.role == "assistant")
        messages[caller] = messages[caller].model_copy(update={"weight": 0.0})


def _said(messages: list[Row], policy: str | None) -> Conversation:
    conversation = Conversation()
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
            raise Unrepresentable("an unknown role")
    return conversation


def _succeeded(reward: Any) -> bool:
    if isinstance(reward, bool) or not isinstance(reward, int | float):
        raise Unrepresentable("a run without a reward")
    return reward >= 1 - 1e-6  # tau-bench's own test of success


@skip_if_unrepresentable
def tau_bench_row(row: Row, *, outcomes: frozenset[Outcome] = SUCCESS) -> Chat:
    """One run of tau-bench."""
    require_outcome(_succeeded(row.get("reward")), outcomes)
    task = row_id(row, "task_id")
    conversation = _said(objects_in(row.get("traj"), "messages"), None)
    return conversation.chat(id=f"{task}#{row.get('trial', 0)}", group=task)


@skip_if_unrepresentable
def _simulation(row: Row, policy: str | None, outcomes: frozenset[Outcome]) -> Chat:
    judged = row.get("reward_info")
    require_outcome(_succeeded(judged.get("reward") if isinstance(judged, dict) else None), outcomes)
    messages = objects_in(row.get("messages"), "messages")
    return _said(messages, policy).chat(id=row_id(row), group=row_id(row, "task_id"))


def tau2_bench_row(row: Row, *, outcomes: frozenset[Outcome] = SUCCESS) -> list[Chat | Skip]:
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
