"""Sides of pairs that are the wrong way round."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from core.screen import with_progress
from data.chats import Message, PreferencePair, what_is_said
from train.audit.findings import Finding, Tallies
from train.audit.rows import call_fault, digest, strings, turn_failed


def audit_pairs(pairs: Sequence[PreferencePair]) -> Iterator[Finding]:
    """Sides that are the wrong way round, by the record of the pairs themselves and by what their calls look like."""
    tallies = Tallies()
    failures = _recorded_failures(pairs)
    keys = [(digest(what_is_said(p.prompt)), _said(p.chosen), _said(p.rejected)) for p in pairs]
    known = set(keys)
    for pair, (prompt, chosen, rejected) in with_progress(zip(pairs, keys, strict=True), "auditing pairs"):
        tallies["opposite_pairs"].add((prompt, rejected, chosen) in known, pair.id)
        failed = [
            ends_in_error(side) or (pair.trunk, prompt, _said(side[:1])) in failures
            for side in (pair.chosen, pair.rejected)
        ]
        tallies["swapped_sides"].add((pair.margin is not None and pair.margin < 0) or failed == [True, False], pair.id)
        faulty = [_looks_faulty(pair, side) for side in (pair.chosen, pair.rejected)]
        if faulty[0] != faulty[1]:
            tallies["rejected_looks_better"].add(faulty[0], pair.id)
        calls = [any(message.tool_calls for message in side) for side in (pair.chosen, pair.rejected)]
        if calls[0] != calls[1]:
            tallies["only_rejected_calls"].add(calls[1], pair.id)
    for name in ("rejected_looks_better", "only_rejected_calls"):  # a tendency needs some pairs to be one
        if tallies[name].total < 10:
            del tallies[name]
    yield from tallies.findings()


def _said(messages: Sequence[Message]) -> bytes:
    return digest([said for said in what_is_said(messages) if said["role"] == "assistant"])


def ends_in_error(side: Sequence[Message]) -> bool:
    """Whether the last turn of a side is a call that was answered by an error, with no repair after it."""
    last = max((t for t, message in enumerate(side) if message.role == "assistant"), default=None)
    return last is not None and bool(turn_failed(side, last))


def _recorded_failures(pairs: Sequence[PreferencePair]) -> set[tuple[str | None, bytes, bytes]]:
    """(trajectory, history, turn) of each turn that is answered by an error in the prompt of some pair.

    Step pairs of one trajectory show this: the prompt of a later one holds what came of the turn that an earlier one is
    about. The trajectory belongs to the key, because a call that failed in one world may work in another.
    """
    failures = set()
    for pair in pairs:
        for t, message in enumerate(pair.prompt):
            if message.role == "assistant" and turn_failed(pair.prompt, t):
                failures.add((pair.trunk, digest(what_is_said(pair.prompt[:t])), _said([message])))
    return failures


def _looks_faulty(pair: PreferencePair, side: Sequence[Message]) -> bool:
    """Whether a side's first turn calls against the schema, or with long values that occur nowhere before it."""
    tools = {tool.function.name: tool.function.parameters for tool in pair.tools}
    if any(call_fault(call, tools.get(call.name)) for call in side[0].tool_calls):
        return True
    before = words_of("\n".join(_texts(pair.prompt)))
    return any(
        len(words) > 2 and words not in before
        for words in (words_of(value) for value in strings([call.arguments for call in side[0].tool_calls]))
    )


def _texts(messages: Iterable[Message]) -> Iterator[str]:
    for message in messages:
        yield message.content
        yield from strings([call.arguments for call in message.tool_calls])


def words_of(text: str) -> str:
    """Words with one blank between them, so that case, white space and punctuation do not count."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))
