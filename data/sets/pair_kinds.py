"""Where a record goes wrong, and what kind of preference can be learned there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from pydantic import JsonValue

from data.records import Action
from data.trajectories import input_to_arguments


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
