"""Trajectory -> messages -> Chat, and trajectories -> PreferencePair.

`actions_to_messages` is also what the benchmark's agent sends to the model while a trajectory grows. So the history
that a model is served and the history that it is trained on are made by the same lines (promise 1).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from typing import Any, Literal

from pydantic import JsonValue

from data.chats import Chat, Label, Message, PreferencePair, Skip, ToolCall, what_is_done, what_is_said
from data.records import INVALID_CALL, Action, Advice, Metadata, Outcome, Trajectory

Level = Literal["step", "trajectory"]
"""Of what a pair's sides are made: of one turn each, or of everything that follows."""

SAME_DEED = Skip("both sides do the same thing")
NO_INSTRUCTION = Skip("no instruction in metadata")


def output_to_text(output: JsonValue) -> str:
    """A tool's result as the model reads it: text as it is, anything else as compact JSON."""
    return output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)


def input_to_arguments(value: dict[str, JsonValue] | str) -> dict[str, JsonValue]:
    """Arguments of a call; a command line becomes the single argument `input`."""
    return {"input": value} if isinstance(value, str) else value


def group_turns(actions: Sequence[Action]) -> Iterator[list[tuple[int, Action]]]:
    """Actions with their indices, grouped into the assistant messages that made them.

    A turn without a readable call is the model's raw text, so it is always a message of its own.
    """

    def key(pair: tuple[int, Action]) -> object:
        index, action = pair
        return index if action.turn is None or action.command == INVALID_CALL else ("turn", action.turn)

    for _, group in groupby(enumerate(actions), key=key):
        yield list(group)


def actions_to_messages(metadata: Metadata, actions: Sequence[Action], *, failed_weight: float = 0.0) -> list[Message]:
    """The history after `actions`: system, instruction, then each call with its result.

    A failed turn weighs `failed_weight` (0: it stays as context, its repair is learned) unless the record says otherwise.
    A turn that held no readable call is the assistant's raw text, answered by a user message that names the fault, because a
    tool message without a call fits no template.
    """
    messages: list[Message] = []
    if metadata.system is not None:
        messages.append(Message(role="system", content=metadata.system))
    messages.append(Message(role="user", content=metadata.instruction or ""))
    for turn in group_turns(actions):
        first = turn[0][1]
        weights = [
            action.weight if action.weight is not None else (failed_weight if action.error is not None else 1.0)
            for _, action in turn
        ]
        if first.command == INVALID_CALL:
            text = input_to_arguments(first.input).get("text", "")
            messages.append(Message(role="assistant", content=str(text), weight=min(failed_weight, *weights)))
            messages.append(Message(role="user", content=f"Error: {first.error}"))
            continue
        messages.append(
            Message(
                role="assistant",
                content=first.text or "",
                reasoning_content=first.reasoning,
                tool_calls=tuple(
                    ToolCall(id=f"call_{index}", name=action.command, arguments=input_to_arguments(action.input))
                    for index, action in turn
                ),
                weight=min(weights),
            )
        )
        for index, action in turn:
            text = f"Error: {action.error}" if action.error is not None else output_to_text(action.output)
            messages.append(Message(role="tool", content=text, tool_call_id=f"call_{index}", name=action.command))
    return messages


def trajectory_to_turns(record: Trajectory, *, failed_weight: float = 0.0) -> list[Message]:
    """A record from its first message to its answer."""
    metadata = record.metadata
    messages = actions_to_messages(metadata, record.action_sequence, failed_weight=failed_weight)
    if metadata.answer is not None:
        messages.append(Message(role="assistant", content=metadata.answer, reasoning_content=metadata.answer_reasoning))
    return messages


def trajectory_to_chat(
    record: Trajectory, *, outcomes: frozenset[Outcome] = frozenset({Outcome.SUCCESS}), labelled: bool = False
) -> Chat | Skip:
    """A record as a chat to imitate. Only `outcomes` are imitated; everything else is a Skip with its reason.

    `labelled` calls a success good and any other outcome bad; of a bad chat the failed turns count, too.
    """
    metadata = record.metadata
    if record.outcome not in outcomes:
        return Skip(f"outcome is {record.outcome}")
    if not metadata.instruction:
        return NO_INSTRUCTION
    label: Label | None = None
    if labelled:
        label = "good" if record.outcome is Outcome.SUCCESS else "bad"
    messages = trajectory_to_turns(record, failed_weight=1.0 if label == "bad" else 0.0)
    if not any(message.loss_weight > 0 for message in messages):
        return Skip("nothing to train on: every step failed")
    return Chat(
        messages=tuple(messages),
        tools=tuple(metadata.tools),
        id=record.id,
        source=metadata.source or record.environment.name,
        licence=metadata.licence,
        group=metadata.group or record.id,
        label=label,
    )


def _advice_to_message(advice: Advice) -> Message:
    if advice.command is None:
        return Message(role="assistant", content=advice.answer or "")
    call = ToolCall(id=f"call_{advice.step}", name=advice.command, arguments=advice.input)
    return Message(role="assistant", content=advice.answer or "", tool_calls=(call,))


def said_at(record: Trajectory, step: int) -> Message | None:
    """What the model said at `step`: the turn that starts there, or its final answer."""
    actions, metadata = record.action_sequence, record.metadata
    if step == len(actions):
        if metadata.answer is None:
            return None
        return Message(role="assistant", content=metadata.answer, reasoning_content=metadata.answer_reasoning)
    before = len(actions_to_messages(metadata, actions[:step]))
    said = actions_to_messages(metadata, actions)[before]
    # A failed turn weighs 0 as history; as the rejected side it is what gets scored.
    return said.model_copy(update={"weight": None}) if said.role == "assistant" else None


def _repair_at(record: Trajectory, step: int) -> Message | None:
    """The model's own direct repair: the very next call, to the same tool, that worked.

    A later repair may rest on what was read in between, and would teach guessing if it stood at this state.
    """
    actions = record.action_sequence
    if step + 1 >= len(actions):
        return None
    failed, following = actions[step], actions[step + 1]
    if failed.turn is not None or following.turn is not None:
        return None
    if failed.error is None or following.error is not None or failed.command != following.command:
        return None
    call = ToolCall(id=f"call_{step}", name=following.command, arguments=input_to_arguments(following.input))
    return Message(role="assistant", content=following.text or "", tool_calls=(call,))


def struck_steps(record: Trajectory) -> set[int]:
    """The steps that our benchmark's injected faults made fail, by `metadata.injected`; none where that is another thing."""
    told = (record.metadata.model_extra or {}).get("injected")
    each = [pair[0] for pair in told if isinstance(pair, list) and pair] if isinstance(told, list) else []
    return {step for step in each if isinstance(step, int)}


def proved_until(record: Trajectory) -> int:
    """The last step from whose state some try has succeeded, by `metadata.proof` (`benchmark run --prove`); 0 without one."""
    proof = (record.metadata.model_extra or {}).get("proof")
    states = proof.get("states") if isinstance(proof, dict) else None
    told = [state for state in states if isinstance(state, dict)] if isinstance(states, list) else []
    steps = [state.get("step") for state in told if state.get("successes")]
    return max((step for step in steps if isinstance(step, int)), default=0)


def trajectory_to_pairs(record: Trajectory) -> Iterator[PreferencePair | Skip]:
    """Step-level pairs of one record: rejected is the failed step, chosen is what should have been done there.

    Both sides share the exact history. The expert's advice for the step comes first; without it, the model's own direct
    repair, if the record succeeded: else nobody knows whether what worked was right. Steps that failed without either,
    steps that an injected fault made fail (the call may have been right), and steps whose repair does the same thing are
    Skips.

    The margin of advice is what the record's score lacks of 1, because the expert solves every task; a record that
    succeeded in spite of the step, or has no score, gives none.
    """
    metadata = record.metadata
    if not metadata.instruction:
        yield NO_INSTRUCTION
        return
    score = score_of(record)
    advice_at = {advice.step: advice for advice in metadata.advice}
    failed = {index for index, action in enumerate(record.action_sequence) if action.error is not None}
    struck = struck_steps(record)
    for step in sorted(failed | set(advice_at)):
        rejected = said_at(record, step) if step <= len(record.action_sequence) else None
        if rejected is None:
            yield Skip("nothing was said at the advised step")
            continue
        if step in struck and step not in advice_at:
            yield Skip("an injected fault made the step fail, not the model")
            continue
        if step in advice_at and step not in failed and step < proved_until(record):
            yield Skip("another way, from which success was still reached")
            continue
        chosen = _advice_to_message(advice_at[step]) if step in advice_at else _repair_at(record, step)
        if chosen is None:
            yield Skip("failed step without advice or direct repair")
            continue
        if step not in advice_at and record.outcome is not Outcome.SUCCESS:
            yield Skip("repaired in a record that did not succeed")
            continue
        if what_is_done([chosen]) == what_is_done([rejected]):
            yield SAME_DEED
            continue
        yield PreferencePair(
            prompt=tuple(actions_to_messages(metadata, record.action_sequence[:step])),
            chosen=(chosen,),
            rejected=(rejected,),
            margin=1 - score if step in advice_at and score is not None and score < 1 else None,
            id=f"{record.id}#{step}",
            **common_fields(record),
        )


def trajectories_to_pair(success: Trajectory, failed: Trajectory, *, level: Level) -> PreferencePair | Skip:
    """Two records of one task: the shared history, then what each did from the first turn on in which they differ.

    At the level of steps this is that one turn; at the level of trajectories it is everything that follows, tool results
    among it. Failed turns of the chosen side keep their weight 0; on the rejected side all turns are scored. The margin is
    the difference of the scores, where both records have one.
    """
    if not (success.metadata.instruction and failed.metadata.instruction):
        return NO_INSTRUCTION
    if success.metadata.tools != failed.metadata.tools:
        return Skip("the two records have other tools")
    chosen, rejected = trajectory_to_turns(success), trajectory_to_turns(failed)
    shared = _shared_messages(chosen, rejected)
    prompt, chosen, rejected = rejected[:shared], chosen[shared:], rejected[shared:]
    if not chosen and not rejected:
        return SAME_DEED
    if not chosen or not rejected:
        return Skip("one record ends where the other goes on")
    if chosen[0].role != "assistant" or rejected[0].role != "assistant":
        begun = any(message.role == "assistant" for message in prompt)
        return Skip("the same call had another result" if begun else "the two records begin with other words")
    if level == "step":
        chosen, rejected = chosen[:1], rejected[:1]
    if what_is_done(chosen) == what_is_done(rejected):
        return SAME_DEED
    if not any(message.loss_weight > 0 for message in chosen):
        return Skip("the successful record's step failed too")
    scores = score_of(success), score_of(failed)
    margin = None if scores[0] is None or scores[1] is None else scores[0] - scores[1]
    if margin is not None and margin <= 0:
        return Skip("the successful record has no higher score")
    # A failed turn weighs 0 as history; as the rejected side it is what gets scored.
    rejected = [message.model_copy(update={"weight": None}) for message in rejected]
    step = sum(max(1, len(message.tool_calls)) for message in prompt if message.role == "assistant")
    return PreferencePair(
        prompt=tuple(prompt),
        chosen=tuple(chosen),
        rejected=tuple(rejected),
        margin=margin,
        id=f"{failed.id}#{step}:{success.id}",
        **common_fields(failed),
    )


def common_fields(record: Trajectory) -> dict[str, Any]:
    """What every pair of a failed record says of it."""
    metadata = record.metadata
    return {
        "tools": tuple(metadata.tools),
        "source": metadata.source or record.environment.name,
        "licence": metadata.licence,
        "group": metadata.group or record.id,
        "trunk": record.id,
    }


def score_of(record: Trajectory) -> float | None:
    """The partial score that the benchmark's verdict left in the metadata."""
    score = (record.metadata.model_extra or {}).get("score")
    return float(score) if isinstance(score, int | float) and not isinstance(score, bool) and 0 <= score <= 1 else None


def _shared_messages(one: Sequence[Message], other: Sequence[Message]) -> int:
    """How many messages both begin with, character by character; loss weights do not count."""
    shared = 0
    for a, b in zip(one, other, strict=False):
        if a.content != b.content or what_is_said([a]) != what_is_said([b]):
            break
        shared += 1
    return shared


def pairs_by_record(
    records: Iterable[Trajectory], *, level: Level = "step"
) -> Iterator[tuple[Trajectory, list[PreferencePair | Skip]]]:
    """Each record with its pairs and Skips, in order; a record from which nothing is to be learned has none.

    A record that did not succeed is compared with the success of its task (`metadata.group`) with which it shares the
    longest history. At the level of steps that pair comes after those of the record itself, unless one of them already
    stands at the same place. All records are in memory.
    """
    records = list(records)
    successes: dict[str, list[Trajectory]] = defaultdict(list)
    for record in records:
        if record.outcome is Outcome.SUCCESS:
            successes[record.metadata.group or record.id].append(record)
    for record in records:
        results = list(trajectory_to_pairs(record)) if level == "step" else []
        if record.outcome is not Outcome.SUCCESS:
            others = successes[record.metadata.group or record.id]
            if others:
                said = trajectory_to_turns(record)
                nearest = max(others, key=lambda other: _shared_messages(trajectory_to_turns(other), said))
                result = trajectories_to_pair(nearest, record, level=level)
                places = {len(each.prompt) for each in results if isinstance(each, PreferencePair)}
                if isinstance(result, PreferencePair) and len(result.prompt) in places:
                    result = Skip("its first divergence has a pair already")
                results.append(result)
            elif level == "trajectory":
                results.append(Skip("no success of its task to compare with"))
        yield record, results


def trajectories_to_pairs(records: Iterable[Trajectory], *, level: Level = "step") -> Iterator[PreferencePair | Skip]:
    """Pairs of many records; the pairs of one record stay next to each other."""
    return chain.from_iterable(results for _, results in pairs_by_record(records, level=level))
