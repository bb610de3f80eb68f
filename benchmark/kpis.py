"""What a set of records is worth: pure functions from trajectories to numbers with 95 % intervals.

docs/kpis.md defines each number so exactly that other code can recompute it from the JSON Lines file. Shares have a Wilson
interval over their cases. Means have a percentile bootstrap interval over records, because what happens within one record is
not independent.

Example::

    kpis(read_trajectories("runs/mine/sft/trajectories.jsonl"))["success_rate"]  # Kpi(value=0.62, low=0.47, high=0.75, n=40)
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from data.errors import UserError
from data.records import INVALID_CALL, Action, Outcome, Trajectory
from data.trajectories import output_to_text

Z_95 = 1.959963984540054
RESAMPLES = 2_000
SEED = 0

UNITS = {
    "success_rate": "share",
    "call_success_rate": "share",
    "recovery_rate": "share",
    "recovery_steps": "actions",
    "recovery_seconds": "seconds",
    "retention_tokens": "tokens",
}
"""The KPIs in the order in which they are shown. A share lies between 0 and 1."""


@dataclass(frozen=True)
class Kpi:
    """A number with its 95 % interval and the number of cases behind it.

    All three are None where nothing could be measured (`n` is 0). `low` and `high` alone are None for a mean that rests on
    one record, because one record cannot tell how much records differ.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Comparison:
    """Success of `b` minus success of `a` over the tasks that both have tried, as a share, with its 95 % interval."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    """Tasks that both have tried."""
    unpaired: int
    """Tasks that only one of them has tried; they are left out."""

    @property
    def significant_loss(self) -> bool:
        """Whether `b` is below `a` by more than chance explains."""
        return self.high is not None and self.high < 0

    @property
    def significant_gain(self) -> bool:
        """Whether `b` is above `a` by more than chance explains."""
        return self.low is not None and self.low > 0


class ErrorEpisode(NamedTuple):
    """A run of errors of one command: index of its first error, and of the action that repaired it (None: never)."""

    first: int
    repair: int | None


def kpis(records: Iterable[Trajectory]) -> dict[str, Kpi]:
    """All KPIs of a set of records, in the order of `UNITS`.

    Raises:
        UserError: if a record's `metadata.task` or its facts have another shape than the benchmark writes.
    """
    records = list(records)
    episodes = [(record.action_sequence, episode) for record in records for episode in error_episodes(record)]
    return {
        "success_rate": wilson(sum(record.outcome is Outcome.SUCCESS for record in records), len(records)),
        "call_success_rate": wilson(
            sum(worked(action) for record in records for action in record.action_sequence),
            sum(len(record.action_sequence) for record in records),
        ),
        "recovery_rate": wilson(sum(episode.repair is not None for _, episode in episodes), len(episodes)),
        "recovery_steps": bootstrap_mean([recovery_steps(record) for record in records]),
        "recovery_seconds": bootstrap_mean([recovery_seconds(record) for record in records]),
        "retention_tokens": bootstrap_mean([list(retention_tokens(record).values()) for record in records]),
    }


def kpis_by(records: Iterable[Trajectory], key: str) -> dict[str, dict[str, Kpi]]:
    """The KPIs of each group of records, by a field of `metadata.task` such as world, tier or language.

    Records without the field stand under "unknown", so that the groups always add up to all records.
    """
    groups: dict[str, list[Trajectory]] = defaultdict(list)
    for record in records:
        groups[str(task_of(record).get(key, "unknown"))].append(record)
    return {name: kpis(groups[name]) for name in sorted(groups)}


def compare_success(a: Iterable[Trajectory], b: Iterable[Trajectory]) -> Comparison:
    """Success share of `b` minus that of `a`, task by task.

    Pairing takes out how hard the tasks are, so a smaller difference can be told from chance. Where a task was tried more
    than once, its share of successes counts.

    Raises:
        UserError: if a record has no `metadata.task.id`.
    """
    of_a, of_b = _success_by_task(a), _success_by_task(b)
    common = sorted(of_a.keys() & of_b.keys())
    kpi = bootstrap_mean([[of_b[task] - of_a[task]] for task in common])
    return Comparison(kpi.value, kpi.low, kpi.high, kpi.n, unpaired=len(of_a.keys() ^ of_b.keys()))


def wilson(hits: int, n: int) -> Kpi:
    """A share with its Wilson score interval, which stays within 0 and 1 and is honest at both ends: 8 of 10 -> 0.49-0.94."""
    if n == 0:
        return Kpi(None, None, None, 0)
    share = hits / n
    scale = 1 + Z_95**2 / n
    middle = (share + Z_95**2 / (2 * n)) / scale
    half = Z_95 * math.sqrt(share * (1 - share) / n + Z_95**2 / (4 * n**2)) / scale
    # In exact arithmetic the interval holds the share; at 0 and at 1 rounding may miss it by the last digit.
    return Kpi(share, max(0.0, min(middle - half, share)), min(1.0, max(middle + half, share)), n)


def bootstrap_mean(values_of_records: Sequence[Sequence[float]]) -> Kpi:
    """Mean over all values, with a percentile bootstrap interval that draws whole records.

    Records without a value take no part. They are sorted by (sum, number of values) first, so that neither the mean nor
    the interval depends on the order of the file.
    """
    pairs = sorted((math.fsum(values), len(values)) for values in values_of_records if values)
    if not pairs:
        return Kpi(None, None, None, 0)
    sums, counts = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
    n = int(counts.sum())
    value = math.fsum(sums) / n
    if len(pairs) == 1:
        return Kpi(value, None, None, n)
    rng = np.random.default_rng(SEED)
    means = np.empty(RESAMPLES)
    for resample in range(RESAMPLES):
        drawn = rng.integers(len(pairs), size=len(pairs))
        means[resample] = sums[drawn].sum() / counts[drawn].sum()
    low, high = np.percentile(means, [2.5, 97.5])
    return Kpi(value, float(low), float(high), n)


def worked(action: Action) -> bool:
    """Whether a call succeeded. A turn that held no readable call did not."""
    return action.error is None and action.command != INVALID_CALL


def error_episodes(record: Trajectory) -> list[ErrorEpisode]:
    """The record's runs of errors, in the order in which they began.

    All errors of one command up to its next success are one episode, whatever other commands do in between. An unreadable
    turn, or a call of a tool that is not among `metadata.tools`, named nothing that could ever work, so the next call
    that works repairs it.
    """
    tools = {tool.function.name for tool in record.metadata.tools}
    open_since: dict[str, int] = {}
    episodes: list[ErrorEpisode] = []
    for index, action in enumerate(record.action_sequence):
        if not worked(action):
            could_work = action.command in tools or not tools
            open_since.setdefault(action.command if could_work else INVALID_CALL, index)
            continue
        for command in (action.command, INVALID_CALL):
            if command in open_since:
                episodes.append(ErrorEpisode(open_since.pop(command), index))
    episodes += [ErrorEpisode(first, None) for first in open_since.values()]
    return sorted(episodes, key=lambda episode: episode.first)


def recovery_steps(record: Trajectory) -> list[float]:
    """Per repaired episode: actions from its first error to its repair. A repair by the very next action is 1."""
    return [float(repair - first) for first, repair in error_episodes(record) if repair is not None]


def recovery_seconds(record: Trajectory) -> list[float]:
    """Per repaired episode: seconds from the end of its first failed action to the end of the repairing action."""
    actions = record.action_sequence
    return [
        (actions[repair].end_time - actions[first].end_time).total_seconds()
        for first, repair in error_episodes(record)
        if repair is not None
    ]


def retention_tokens(record: Trajectory) -> dict[str, float]:
    """Per fact: tokens between the end of its first appearance and the start of its last correct use.

    A fact appears in the instruction or in the output of an action. It is used correctly where it is part of a string among
    the arguments of an action that worked, after it appeared. A fact that was never used so counts 0. Tokens are words and
    signs (`TOKEN`), so the number does not depend on a model.
    """
    facts = task_of(record).get("facts") or {}
    if not isinstance(facts, dict) or not all(isinstance(fact, str) for fact in facts.values()):
        raise UserError(f"record {record.id!r}: field 'metadata.task.facts' is an object of texts, got {facts!r:.80}")
    pieces = _record_to_pieces(record)
    text = "\n".join(piece.text for piece in pieces)
    starts = [0]
    for piece in pieces:
        starts.append(starts[-1] + len(piece.text) + 1)
    distances = {}
    for name, fact in facts.items():
        distances[name] = 0.0
        appeared: int | None = None
        last_use: int | None = None
        for start, piece in zip(starts, pieces, strict=False):
            if appeared is None and piece.role == "shows":
                end = next((end for _, end in _occurrences(fact, piece)), None)
                appeared = None if end is None else start + end
            elif appeared is not None and piece.role == "uses":
                for begin, _ in _occurrences(fact, piece):
                    last_use = start + begin
        if appeared is not None and last_use is not None:
            distances[name] = float(len(TOKEN.findall(text[appeared:last_use])))
    return distances


def task_of(record: Trajectory) -> dict[str, Any]:
    """The task as the benchmark wrote it into the record; empty for a record from elsewhere.

    Raises:
        UserError: if `metadata.task` is there and no object.
    """
    task = (record.metadata.model_extra or {}).get("task")
    if task is None:
        return {}
    if not isinstance(task, dict):
        raise UserError(f"record {record.id!r}: field 'metadata.task' is an object, got {task!r:.80}")
    return task


def _success_by_task(records: Iterable[Trajectory]) -> dict[str, float]:
    outcomes: dict[str, list[bool]] = defaultdict(list)
    for record in records:
        task_id = task_of(record).get("id")
        if task_id is None:
            raise UserError(
                f"record {record.id!r}: field 'metadata.task.id' is missing, so it cannot be paired by task"
            )
        outcomes[str(task_id)].append(record.outcome is Outcome.SUCCESS)
    return {task_id: sum(tries) / len(tries) for task_id, tries in outcomes.items()}


TOKEN = re.compile(r"\w+|[^\w\s]")
"""A token of the retention length: a run of letters, digits and underscores of any script, or one other sign."""

_INSIDE_A_WORD = r"(?<=[A-Za-z0-9])(?=[A-Za-z0-9])"
"""A place between two ASCII letters or digits. Fact "89" is not in "1890"; Korean particles may follow a fact directly."""

_JSON_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"(?P<key>:)?|-?\d[\d.eE+-]*')
"""A string or a number of JSON text that `json.dumps` wrote; a string with a colon behind it is a key."""


class _Piece(NamedTuple):
    """A part of a record's text, what it can do for a fact, and whether it is JSON."""

    text: str
    role: str
    """"shows" (a fact may appear here), "uses" (a use here is a correct one), or "" (only its tokens count)."""
    is_json: bool = False


def _record_to_pieces(record: Trajectory) -> list[_Piece]:
    pieces = [_Piece(record.metadata.instruction or "", "shows")]
    for action in record.action_sequence:
        arguments = json.dumps(action.input, ensure_ascii=False)
        pieces.append(_Piece(action.command, ""))
        pieces.append(_Piece(arguments, "uses" if worked(action) else "", is_json=True))
        if action.error is not None:
            pieces.append(_Piece(action.error, ""))
        else:
            pieces.append(_Piece(output_to_text(action.output), "shows", is_json=not isinstance(action.output, str)))
    pieces.append(_Piece(record.metadata.answer or "", ""))
    return pieces


def _occurrences(fact: str, piece: _Piece) -> Iterator[tuple[int, int]]:
    """Where `fact` stands in a piece, as (begin, end) in characters of the piece's text.

    JSON is searched literal by literal, each decoded: keys, strings and numbers of an output, but only the strings of
    arguments, because a key of a call is the tool's own word.
    """
    if not fact:
        return
    sought = re.compile(f"(?!{_INSIDE_A_WORD}){re.escape(fact)}(?!{_INSIDE_A_WORD})")
    if not piece.is_json:
        yield from (match.span() for match in sought.finditer(piece.text))
        return
    for literal in _JSON_LITERAL.finditer(piece.text):
        quoted = literal[0].startswith('"')
        if piece.role == "uses" and (literal["key"] or not quoted):
            continue
        value = json.loads(literal[0].removesuffix(literal["key"] or "")) if quoted else literal[0]
        begin = literal.start() + quoted
        for match in sought.finditer(value):
            yield begin + _escaped_length(value[: match.start()]), begin + _escaped_length(value[: match.end()])


def _escaped_length(value: str) -> int:
    return len(json.dumps(value, ensure_ascii=False)) - 2
