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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np

from core.errors import UserError
from data.records import INVALID_CALL, Action, Outcome, Trajectory
from data.trajectories import output_to_text
from data.wire import Kpi

Z_95 = 1.959963984540054
RESAMPLES = 2_000
SEED = 0

UNKNOWN = "unknown"
CONTEXT_TOKENS = (0, 512, 1_024, 2_048, 4_096, 8_192, 16_384, 32_768)
"""Upper ends of the sizes of context in `success_by_context`."""
BEYOND = f"more than {CONTEXT_TOKENS[-1]}"

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


class CallOutcome(NamedTuple):
    """What the KPIs of errors ask of a call."""

    command: str
    worked: bool | None
    """None where the record does not tell."""
    end_time: datetime | None
    """None where the record has no times."""


@dataclass(frozen=True)
class ForeignRun:
    """A run that was recorded elsewhere, with what its format tells of it (benchmark/reports/foreign.py)."""

    id: str
    outcome: Outcome | None
    """None where the format does not tell."""
    calls: tuple[CallOutcome, ...]
    tools: frozenset[str] = frozenset()
    """Names of the tools that there were; empty where the format does not tell."""
    task: str | None = None
    """Names what was tried; several runs may try the same."""


Record = Trajectory | ForeignRun


class ErrorEpisode(NamedTuple):
    """A run of errors of one command: index of its first error, and of the action that repaired it (None: never)."""

    first: int
    repair: int | None


def kpis(records: Iterable[Record]) -> dict[str, Kpi]:
    """All KPIs of a set of records, in the order of `UNITS`. What a foreign record does not tell is left out, never counted 0.

    Raises:
        UserError: if a record's `metadata.task` or its facts have another shape than the benchmark writes.
    """
    records = list(records)
    outcomes = [record.outcome for record in records if record.outcome is not None]
    calls = [call.worked for record in records for call in calls_of(record) if call.worked is not None]
    episodes = [episode for record in records for episode in error_episodes(record)]
    return {
        "success_rate": wilson(sum(outcome is Outcome.SUCCESS for outcome in outcomes), len(outcomes)),
        "call_success_rate": wilson(sum(calls), len(calls)),
        "recovery_rate": wilson(sum(episode.repair is not None for episode in episodes), len(episodes)),
        "recovery_steps": bootstrap_mean([recovery_steps(record) for record in records]),
        "recovery_seconds": bootstrap_mean([recovery_seconds(record) for record in records]),
        "retention_tokens": bootstrap_mean([list(retention_tokens(record).values()) for record in records]),
    }


def kpis_by(records: Iterable[Record], key: str) -> dict[str, dict[str, Kpi]]:
    """The KPIs of each group of records, by a field of `metadata.task` such as world, tier or language, or by "fault".

    Records without the field stand under "unknown", so that the groups always add up to all records. By fault they need not: a
    record belongs to the group of each kind of fault that its task holds, and to "none" when it holds none.
    """
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        task = task_of(record)
        for name in _fault_kinds(record) if key == "fault" else [str(task.get(key, UNKNOWN))]:
            groups[name].append(record)
    return {name: kpis(groups[name]) for name in sorted(groups, key=in_order)}


def success_by_context(records: Iterable[Record]) -> dict[str, Kpi]:
    """Success by the size of the context: how many tokens stand between where the needed fact is read and where it is used.

    The size is the task's own `context_tokens`, so it does not depend on what a model did. A task belongs to the first of
    `CONTEXT_TOKENS` that is not smaller. All sizes are in the result; those that were not tried have n 0 and value None.

    Raises:
        UserError: if `metadata.task.context_tokens` is no whole number from 0.
    """
    groups: dict[str, list[Record]] = {name: [] for name in (*map(str, CONTEXT_TOKENS), BEYOND)}
    for record in records:
        size = task_of(record).get("context_tokens")
        if size is None:
            continue
        if type(size) is not int or size < 0:
            raise UserError(
                f"record {record.id!r}: field 'metadata.task.context_tokens' is a whole number, got {size!r:.80}"
            )
        groups[context_to_size(size)].append(record)
    return {name: kpis(group)["success_rate"] for name, group in groups.items()}


def context_to_size(tokens: int) -> str:
    """The group of `success_by_context` that a task with so many `context_tokens` belongs to."""
    return next((str(most) for most in CONTEXT_TOKENS if tokens <= most), BEYOND)


def count_errors(records: Iterable[Record]) -> dict[str, int | None]:
    """The counts behind the shares, and how many failed calls were followed, sooner or later, by a success of the same tool.

    What no record tells is None.
    """
    records = list(records)
    outcomes = [record.outcome for record in records if record.outcome is not None]
    calls = [calls_of(record) for record in records]
    known = sum(call.worked is not None for of_record in calls for call in of_record)
    failed = [
        (record, [(place, call.command) for place, call in enumerate(of_record) if call.worked is False], of_record)
        for record, of_record in zip(records, calls, strict=True)
    ]
    later = [
        any(call.worked and call.command == command for call in of_record[place + 1 :])
        for _, places, of_record in failed
        for place, command in places
    ]
    episodes = [episode for record in records for episode in error_episodes(record)]
    of_outcomes = {
        "records": len(records),
        "records that tell how they ended": len(outcomes),
        "successes": sum(outcome is Outcome.SUCCESS for outcome in outcomes) if outcomes else None,
        "calls": sum(map(len, calls)),
        "calls that tell whether they worked": known,
    }
    of_errors = {
        "failed calls": len(later),
        "failed calls with a later success of the same tool": sum(later),
        "records with a failed call": sum(bool(places) for _, places, _ in failed),
        "successes with a failed call": sum(bool(places) and r.outcome is Outcome.SUCCESS for r, places, _ in failed),
        "error episodes": len(episodes),
        "repaired episodes": sum(episode.repair is not None for episode in episodes),
    }
    return of_outcomes | (of_errors if known else dict.fromkeys(of_errors))


def pass_hat_k(records: Iterable[Record], k: int) -> Kpi:
    """pass^k: the chance that `k` tries of a task all succeed, as a mean over tasks (tau-bench, arXiv 2406.12045, section 3).

    Of `n` tries of a task `c` succeeded, so C(c, k) / C(n, k) of all ways to choose `k` of them hold successes only, which is
    unbiased for the chance. Tasks tried fewer than `k` times take no part; `n` of the result counts the others.

    Raises:
        UserError: if `k` is below 1, or a record has no `metadata.task.id`.
    """
    if k < 1:
        raise UserError(f"pass^k: k is a whole number from 1, got {k}")
    tries = _outcomes_by_task(records).values()
    return bootstrap_mean([[math.comb(sum(each), k) / math.comb(len(each), k)] for each in tries if len(each) >= k])


def compare_success(a: Iterable[Trajectory], b: Iterable[Trajectory]) -> Comparison:
    """Success share of `b` minus that of `a`, task by task.

    Pairing takes out how hard the tasks are, so a smaller difference can be told from chance. Where a task was tried more
    than once, its share of successes counts.

    Raises:
        UserError: if a record has no `metadata.task.id`.
    """
    return compare_shares(_success_by_task(a), _success_by_task(b))


def compare_shares(of_a: Mapping[str, float], of_b: Mapping[str, float]) -> Comparison:
    """The same from the share of successes of each task."""
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


def calls_of(record: Record) -> tuple[CallOutcome, ...]:
    """The calls of a record, in their order."""
    if isinstance(record, ForeignRun):
        return record.calls
    return tuple(CallOutcome(action.command, worked(action), action.end_time) for action in record.action_sequence)


def error_episodes(record: Record) -> list[ErrorEpisode]:
    """The record's runs of errors, in the order in which they began.

    All errors of one command up to its next success are one episode, whatever other commands do in between. An unreadable
    turn, or a call of a tool that is not among `metadata.tools`, named nothing that could ever work, so the next call
    that works repairs it.
    """
    if isinstance(record, ForeignRun):
        tools: set[str] | frozenset[str] = record.tools
    else:
        tools = {tool.function.name for tool in record.metadata.tools}
    open_since: dict[str, int] = {}
    episodes: list[ErrorEpisode] = []
    for index, call in enumerate(calls_of(record)):
        if call.worked is None:
            continue
        if not call.worked:
            could_work = call.command in tools or not tools
            open_since.setdefault(call.command if could_work else INVALID_CALL, index)
            continue
        for command in (call.command, INVALID_CALL):
            if command in open_since:
                episodes.append(ErrorEpisode(open_since.pop(command), index))
    episodes += [ErrorEpisode(first, None) for first in open_since.values()]
    return sorted(episodes, key=lambda episode: episode.first)


def recovery_steps(record: Record) -> list[float]:
    """Per repaired episode: actions from its first error to its repair. A repair by the very next action is 1."""
    return [float(repair - first) for first, repair in error_episodes(record) if repair is not None]


def recovery_seconds(record: Record) -> list[float]:
    """Per repaired episode: seconds from the end of its first failed action to the end of the repairing action."""
    calls, seconds = calls_of(record), []
    for first, repair in error_episodes(record):
        began, ended = calls[first].end_time, None if repair is None else calls[repair].end_time
        if began is not None and ended is not None:
            seconds.append((ended - began).total_seconds())
    return seconds


def retention_tokens(record: Record) -> dict[str, float]:
    """Per fact: tokens between the end of its first appearance and the start of its last correct use.

    A fact appears in the instruction or in the output of an action. It is used correctly where it is part of a string among
    the arguments of an action that worked, after it appeared. A fact that was never used so counts 0. Tokens are words and
    signs (`TOKEN`), so the number does not depend on a model. Nobody has named the facts of a foreign record.
    """
    if isinstance(record, ForeignRun):
        return {}
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


def task_of(record: Record) -> dict[str, Any]:
    """The task as the benchmark wrote it into the record; of a record from elsewhere its id, where that is known.

    Raises:
        UserError: if `metadata.task` is there and no object.
    """
    if isinstance(record, ForeignRun):
        return {} if record.task is None else {"id": record.task}
    task = (record.metadata.model_extra or {}).get("task")
    if task is None:
        return {}
    if not isinstance(task, dict):
        raise UserError(f"record {record.id!r}: field 'metadata.task' is an object, got {task!r:.80}")
    return task


def _fault_kinds(record: Record) -> list[str]:
    faults = task_of(record).get("faults")
    if faults is None:
        return [UNKNOWN]
    try:
        return sorted({str(fault["kind"]) for fault in faults}) or ["none"]
    except (TypeError, KeyError):
        raise UserError(
            f"record {record.id!r}: field 'metadata.task.faults' is a list of faults with a kind, got {faults!r:.80}"
        ) from None


def in_order(name: str) -> tuple[bool, float, str]:
    """Sorts names of groups: tier 2 before tier 10, names by letters, and what is unknown or none at the end."""
    return name in (UNKNOWN, "none"), float(name) if name.isdecimal() else 0.0, name


def _success_by_task(records: Iterable[Trajectory]) -> dict[str, float]:
    return {task: sum(tries) / len(tries) for task, tries in _outcomes_by_task(records).items()}


def _outcomes_by_task(records: Iterable[Record]) -> dict[str, list[bool]]:
    """Whether each try of a task succeeded, by task."""
    outcomes: dict[str, list[bool]] = defaultdict(list)
    for record in records:
        task_id = task_of(record).get("id")
        if task_id is None:
            raise UserError(
                f"record {record.id!r}: field 'metadata.task.id' is missing, so it cannot be paired by task"
            )
        outcomes[str(task_id)].append(record.outcome is Outcome.SUCCESS)
    return outcomes


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
