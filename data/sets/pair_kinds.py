"""Where a record goes wrong, and what kind of preference can be learned there.

    stuck      the same failed call again, against a way out
    stop       an answer too early, none at all, asking or refusing wrongly, against going on as is right
    pit        the model's first step from which success is lost, against its own way from there that succeeds
    try        a whole failed try, against a whole one of the same task that succeeds
    injection  obeying an instruction in a tool's result, against going on

Chosen sides run to success: they are the rest of a record that begins where the model's did (`metadata.begins`), as `python -m
benchmark complete` and `benchmark run --prove` write them. Rejected sides are one turn, but for whole tries.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import JsonValue

from core.errors import UserError, nearest
from data.chats import Message, PreferencePair, Skip, what_is_done, what_is_said
from data.records import Action, Outcome, Trajectory
from data.trajectories import (
    NO_INSTRUCTION,
    SAME_DEED,
    actions_to_messages,
    common_fields,
    group_turns,
    input_to_arguments,
    said_at,
    score_of,
    struck_steps,
    trajectories_to_pair,
    trajectory_to_turns,
)

KINDS = ("stuck", "stop", "pit", "try", "injection")
MOST_IMBALANCE = 0.1
"""By how much the words of all chosen and of all rejected sides of whole tries may differ."""


def call_to_key(command: str, given: dict[str, JsonValue] | str) -> str:
    """Equal exactly for calls of the same tool with the same arguments."""
    return json.dumps([command, input_to_arguments(given)], sort_keys=True)


def is_stuck(actions: Sequence[Action], struck: Collection[int], said: Iterable[str]) -> bool:
    """Whether the turn after `actions` stands at the second identical failed call.

    So it does if it makes a call that has failed, and nothing has worked since: the call cannot but fail again. Where something
    has worked in between, the call may be right now; then it is so after the call has failed once more.

    Args:
        struck: steps that an injected fault made fail. To make these calls again is the way out.
        said: the calls of the turn, as `call_to_key`.
    """
    failed: Counter[str] = Counter()
    since: set[str] = set()
    last: str | None = None
    for step, action in enumerate(actions):
        last = None
        if action.error is None:
            since.clear()
        elif step not in struck:
            last = call_to_key(action.command, action.input)
            failed[last] += 1
            since.add(last)
    return any(call in since for call in said) or (last is not None and failed[last] > 1)


def stuck_steps(record: Trajectory) -> list[int]:
    """Where turns begin that make a call which has failed before and fails again; each call once, at its second failure."""
    struck = struck_steps(record)
    failed: Counter[str] = Counter()
    found = []
    for group in group_turns(record.action_sequence):
        again = False
        for step, action in group:
            if action.error is not None and step not in struck:
                call = call_to_key(action.command, action.input)
                failed[call] += 1
                again = again or failed[call] == 2
        if again:
            found.append(group[0][0])
    return found


def is_own_try(record: Trajectory) -> bool:
    """Whether a model has made all of the record by itself, from its start."""
    extra = record.metadata.model_extra or {}
    return "begins" not in extra and "interventions" not in extra


class Kept(NamedTuple):
    """What became of tries: pairs of each kind, and why others are none."""

    pairs: dict[str, list[PreferencePair]]
    dropped: Counter[str]


def records_to_kinds(records: Iterable[Trajectory], kinds: Sequence[str]) -> Kept:
    """Pairs of these kinds. All records are in memory."""
    tries: dict[str, Trajectory] = {}
    others: dict[str, list[Trajectory]] = defaultdict(list)
    for record in records:
        begins = (record.metadata.model_extra or {}).get("begins")
        if is_own_try(record):
            tries[record.id] = record
        elif isinstance(begins, dict):
            others[str(begins.get("record"))].append(record)
    kept = Kept({kind: [] for kind in kinds}, Counter())
    for kind in kinds:
        found = _tries_to_pairs(tries.values()) if kind == "try" else _completed_to_pairs(tries, others, kind)
        for result in found:
            if isinstance(result, Skip):
                kept.dropped[f"{kind}: {result.reason}"] += 1
            else:
                kept.pairs[kind].append(result.model_copy(update={"kind": kind}))
    if "try" in kinds:
        kept.pairs["try"], left_out = balanced(kept.pairs["try"])
        if left_out:
            kept.dropped["try: its sides differ most in length"] += left_out
    return kept


def _completed_to_pairs(
    tries: Mapping[str, Trajectory], others: Mapping[str, Sequence[Trajectory]], kind: str
) -> Iterator[PreferencePair | Skip]:
    for name in others:
        if name not in tries:
            yield Skip("the try in which it begins is not there")
    for record in tries.values():
        if kind == "pit":
            yield from _pit_to_pair(record, others.get(record.id, ()))
            continue
        for other in others.get(record.id, ()):
            begins = (other.metadata.model_extra or {})["begins"]
            if begins.get("kind") == kind:
                yield _completed_to_pair(record, other, int(begins["step"]))


def _pit_to_pair(record: Trajectory, others: Sequence[Trajectory]) -> Iterator[PreferencePair | Skip]:
    """The first step from which success is lost, against the model's own way from the state before it."""
    proof = (record.metadata.model_extra or {}).get("proof")
    if record.outcome is Outcome.SUCCESS or not isinstance(proof, dict):
        return
    step = proof.get("pit")
    if not isinstance(step, int):
        yield Skip("no try from its start has succeeded, so that nothing was lost")
        return
    ways = [
        other
        for other in others
        if (other.metadata.model_extra or {})["begins"] == {"record": record.id, "step": step}
        and other.outcome is Outcome.SUCCESS
    ]
    results = [_completed_to_pair(record, way, step) for way in ways]
    pairs = [result for result in results if isinstance(result, PreferencePair)]
    yield (
        min(pairs, key=lambda pair: (said_characters(pair.chosen), pair.id))
        if pairs
        else Skip("no way from there is known")
    )


def _completed_to_pair(record: Trajectory, other: Trajectory, step: int) -> PreferencePair | Skip:
    """One turn of a try, against how another record goes on from there to success."""
    if not record.metadata.instruction:
        return NO_INSTRUCTION
    if other.outcome is not Outcome.SUCCESS:
        return Skip("the way from there does not end in success")
    rejected = said_at(record, step) if step <= len(record.action_sequence) else None
    if rejected is None:
        return Skip("nothing was said there")
    prompt = actions_to_messages(record.metadata, record.action_sequence[:step])
    said = trajectory_to_turns(other)
    if what_is_said(said[: len(prompt)]) != what_is_said(prompt):
        return Skip("the two records begin with other words")
    chosen = said[len(prompt) :]
    if not chosen or chosen[0].role != "assistant" or not any(message.loss_weight > 0 for message in chosen):
        return Skip("nothing follows there that could be learned")
    if what_is_done(chosen[:1]) == what_is_done([rejected]):
        return SAME_DEED
    score = score_of(record)
    return PreferencePair(
        prompt=tuple(prompt),
        chosen=tuple(chosen),
        rejected=(rejected,),
        margin=1 - score if score is not None and score < 1 else None,
        id=f"{record.id}#{step}:{other.id}",
        **common_fields(record),
    )


def _tries_to_pairs(tries: Iterable[Trajectory]) -> Iterator[PreferencePair | Skip]:
    """Each failed try against the success of its task whose length is nearest."""
    by_task: dict[str, list[Trajectory]] = defaultdict(list)
    for record in tries:
        by_task[record.metadata.group or record.id].append(record)
    for records in by_task.values():
        successes = [record for record in records if record.outcome is Outcome.SUCCESS]
        lengths = {record.id: said_characters(trajectory_to_turns(record)) for record in records}
        used: Counter[str] = Counter()
        for record in records:
            if record.outcome is Outcome.SUCCESS:
                continue
            if not successes:
                yield Skip("no success of its task to compare with")
                continue
            length = lengths[record.id]
            # Each success is taken once before one is taken again.
            nearest_one = min(successes, key=lambda other: (used[other.id], abs(lengths[other.id] - length)))
            used[nearest_one.id] += 1
            yield trajectories_to_pair(nearest_one, record, level="trajectory")


def said_characters(messages: Iterable[Message]) -> int:
    """The length of what the model says: words, thoughts and calls; the model's own tokens are not known here."""
    said = [message for message in messages if message.role == "assistant"]
    return sum(
        len(message.content)
        + len(message.reasoning_content or "")
        + sum(len(call_to_key(call.name, call.arguments)) for call in message.tool_calls)
        for message in said
    )


def lengths(pairs: Iterable[PreferencePair]) -> tuple[int, int]:
    """Characters that the model says on all chosen and on all rejected sides."""
    both = [(said_characters(pair.chosen), said_characters(pair.rejected)) for pair in pairs]
    return sum(chosen for chosen, _ in both), sum(rejected for _, rejected in both)


def balanced(pairs: Sequence[PreferencePair]) -> tuple[list[PreferencePair], int]:
    """Most of the pairs, so that all chosen sides together are within 10 % as long as all rejected ones; and how many are left
    out, each time the one without which both are nearest to each other."""
    kept = {place: (said_characters(pair.chosen), said_characters(pair.rejected)) for place, pair in enumerate(pairs)}
    chosen, rejected = lengths(pairs)
    while abs(chosen - rejected) > MOST_IMBALANCE * min(chosen, rejected):
        excess = chosen - rejected
        place = min(kept, key=lambda place: (abs(excess - kept[place][0] + kept[place][1]), pairs[place].id))
        of_chosen, of_rejected = kept.pop(place)
        chosen, rejected = chosen - of_chosen, rejected - of_rejected
    return [pairs[place] for place in kept], len(pairs) - len(kept)


# ---- how much of each kind ----


def read_kinds(text: str) -> dict[str, float | None]:
    """`stuck,stop` or `stuck=0.7,stop=0.3`: the kinds that are wanted, with their shares where they are given.

    Raises:
        UserError: an unknown kind, one that is named twice, shares of some only, or shares that are no numbers above 0.
    """
    wanted: dict[str, float | None] = {}
    for word in filter(None, (part.strip() for part in text.split(","))):
        kind, _, share = word.partition("=")
        if kind not in KINDS:
            raise UserError(f"--kinds {kind}: expected {', '.join(KINDS)}.{nearest(kind, KINDS)}")
        if kind in wanted:
            raise UserError(f"--kinds {text}: {kind} is named twice")
        try:
            wanted[kind] = float(share) if share else None
        except ValueError:
            raise UserError(f"--kinds {word}: expected a number after =, such as {kind}=0.5") from None
        if not (wanted[kind] or 1) > 0:
            raise UserError(f"--kinds {word}: a share is a number above 0")
    if not wanted:
        raise UserError(f"--kinds: expected some of {', '.join(KINDS)}")
    if len({share is None for share in wanted.values()}) > 1:
        raise UserError(f"--kinds {text}: give a share to each kind or to none")
    return wanted


def with_shares(
    pairs: Mapping[str, list[PreferencePair]], shares: Mapping[str, float | None]
) -> dict[str, list[PreferencePair]]:
    """As many pairs as there are with these shares; which of them are left out depends on their ids alone."""
    given = {kind: share for kind, share in shares.items() if share is not None}
    if not given:
        return dict(pairs)
    whole = min(len(pairs[kind]) / share for kind, share in given.items())
    taken = {}
    for kind, share in given.items():
        by_chance = sorted(pairs[kind], key=lambda pair: (zlib.crc32(pair.id.encode()), pair.id))
        ids = {pair.id for pair in by_chance[: round(whole * share)]}
        taken[kind] = [pair for pair in pairs[kind] if pair.id in ids]
    return taken


def kinds_to_counts(pairs: Mapping[str, Sequence[PreferencePair]]) -> dict[str, dict[str, Any]]:
    """How many pairs there are of each kind, their share of all, and the mean length of their sides in characters."""
    whole = sum(map(len, pairs.values()))
    counts = {}
    for kind, of_kind in pairs.items():
        chosen, rejected = lengths(of_kind)
        counts[kind] = {
            "pairs": len(of_kind),
            "share": round(len(of_kind) / whole, 4) if whole else 0.0,
            "chosen_characters": round(chosen / max(1, len(of_kind)), 1),
            "rejected_characters": round(rejected / max(1, len(of_kind)), 1),
        }
    return counts
