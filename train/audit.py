"""The pre-flight audit: what usually goes wrong with a run is looked for before the run, and told with rows and a remedy.

    python -m train.audit                          print the table of checks and limits (docs/audit.md holds it)
    python train/sft.py --config ... --dry_run true       audit and plan, train nothing

Each check counts something ("trained calls whose tool is not declared") out of something ("all trained calls"). `LIMITS`
says above which share that is a warning and above which the run is refused; nothing else decides. Checks are plain functions
over the prepared set, what was rendered from it, and the plan of the run; they change nothing.

A limit is passed knowingly with `--audit_allow NAME`, finding by finding.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.table import Table

from data.chats import Chat, Message, PreferencePair, Skip, ToolCall, what_is_said
from data.curation.contamination import Decontaminate, Reference
from data.curation.rows import record_to_row
from data.errors import UserError, nearest, printable
from data.progress import with_progress
from data.records import BadLine, read_jsonl
from train.plan import Plan, duration, shape_of

if TYPE_CHECKING:
    from rich.console import Console

    from data.mixture import Prepared
    from data.render import Renderer
    from train.tree import Rendered, RenderReport

Row = Chat | PreferencePair
Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Limit:
    """One check: what is counted, the shares above which it warns and refuses (null: never), and what to do about it."""

    counted: str
    warn: float | None
    refuse: float | None
    advice: str


# fmt: off
LIMITS: dict[str, Limit] = {
    # the set against the benchmark, and against itself
    "test_tasks": Limit(
        "tasks of --benchmark_tasks that occur in the set, as `data curate decontaminate` finds them",
        None, 0.0,
        "a score on these tasks would not be earned: take the rows out, or test on other tasks",
    ),
    "validation_in_train": Limit(
        "validation rows whose question, with the same tools, also stands in train",
        0.01, 0.3,
        "give rows of one task the same `group`, and build again; until then the validation loss says nothing",
    ),
    "duplicates": Limit(
        "training rows that repeat another one, beyond what weights above 1 asked for",
        0.02, 0.5,
        "take the repetitions out, or ask for them with `weight` in the data config",
    ),
    "same_target": Limit(
        "training rows (of 20 or more) that train the most frequent words",
        0.5, 0.9,
        "the model would learn to say that always: cap how often it occurs",
    ),
    # what the trained turns hold
    "empty_turns": Limit(
        "trained turns without words and without calls",
        0.0, 0.1,
        "the model would learn to say nothing: give these turns weight 0 or take them out",
    ),
    "failed_steps": Limit(
        "trained calls that were answered by an error",
        0.02, 0.5,
        "give failed steps weight 0: then they stay as context and only their repair is learned",
    ),
    "undeclared_tools": Limit(
        "trained calls of tools that the row does not declare",
        0.0, 0.2,
        "add the tools to the rows: a served model calls what its prompt declares",
    ),
    "unfit_calls": Limit(
        "trained calls with an argument missing or unknown by the tool's schema",
        0.01, 0.5,
        "mend the calls or the schemas: the model would learn calls that the tool refuses",
    ),
    "null_filled": Limit(
        "rows with nulls in calls or tool schemas that the schema has no place for",
        0.0, 0.1,
        "something on the way filled keys of other rows with null (Arrow does that): convert from the original file",
    ),
    "control_text": Limit(
        "trained turns that hold control tokens as text",
        0.0, 0.2,
        "the text looks rendered already: convert it to messages, with real tool_calls and reasoning_content",
    ),
    "inline_think": Limit(
        "trained turns with a think block in their words",
        None, 0.0,
        "the model would learn to write its thoughts as its answer: they belong into reasoning_content",
    ),
    "no_question": Limit(
        "rows whose first trained turn has no words of a user or a tool before it",
        0.01, 0.5,
        "look at the roles: questions may have been lost, or be marked as the assistant's",
    ),
    "doubled_turns": Limit(
        "rows that train an assistant turn right after another one",
        0.01, 0.5,
        "look at the roles: a user's or a tool's turn between the two may have been lost, or be marked as the assistant's",
    ),
    # pairs
    "same_sides": Limit(
        "pairs whose chosen and rejected side score the same tokens",
        0.0, 0.1,
        "they differ in nothing that the model says, so they teach nothing: take them out",
    ),
    "opposite_pairs": Limit(
        "pairs of which the set holds the opposite, too",
        0.0, 0.1,
        "the same two answers are preferred both ways round: decide for one",
    ),
    "swapped_sides": Limit(
        "pairs that are wrong by their own record: the margin is negative, or it is the chosen side that failed",
        0.0, 0.05,
        "swap chosen and rejected of these pairs",
    ),
    "rejected_looks_better": Limit(
        "pairs (of 10 or more with one side only at fault) in which it is chosen: a call that does not fit the schema, or "
        "values that occur nowhere before it",
        0.5, 0.75,
        "look at some with `python -m data show`: chosen and rejected seem to be swapped",
    ),
    "only_rejected_calls": Limit(
        "pairs (of 10 or more with calls on one side only) in which it is the rejected side",
        0.75, None,
        "the model would learn not to act: if that is not meant, chosen and rejected are swapped",
    ),
    # rendering
    "template_loses": Limit(
        "rows dropped because the chat template loses or refuses a part of them",
        0.0, 0.05,
        "choose a template that shows it with --chat_template_path",
    ),
    "lost_context": Limit(
        "kept rows of whose context the chat template does not show everything",
        0.0, None,
        "a server with this template shows it no more than training does; to show it, choose another one with "
        "--chat_template_path",
    ),
    "no_stop_token": Limit(
        "rows with a trained turn that does not end with a scored stop token",
        0.0, 0.05,
        "the model would never learn to stop: the template must end each turn with a token of "
        "generation_config.eos_token_id",
    ),
    "stop_not_served": Limit(
        "rows that end with a stop token which the model's generation_config does not stop at",
        0.0, None,
        "add the token to eos_token_id in generation_config.json, or the served model goes on after its turn",
    ),
    "dropped": Limit(
        "rows dropped for other reasons",
        0.02, 0.2,
        "read the reasons above; rows that do not fit need a larger --max_length",
    ),
    "dropped_at_build": Limit(
        "rows that `data build` dropped, other than by outcome, weight or max_rows",
        0.5, None,
        "read the reasons in manifest.json: a source may be read with the wrong adapter",
    ),
    "cut": Limit(
        "rows that lost their oldest turns to fit",
        0.1, 0.5,
        "raise --max_length, or --audit_allow cut if that is meant",
    ),
    "lost_turns": Limit(
        "turns that were to be trained and did not fit",
        0.02, 0.2,
        "raise --max_length",
    ),
    "little_scored": Limit(
        "tokens that are only context",
        0.98, 0.995,
        "nearly all work goes into reading: look at `weight` of the turns, or shorten tools and system prompt",
    ),
    "all_scored": Limit(
        "tokens that are scored",
        0.95, 0.995,
        "there is nearly no context: look at the roles, questions may be missing",
    ),
    "context_window": Limit(
        "rows longer than the model's context window",
        0.0, 0.0,
        "set --max_length to the window",
    ),
    "unknown_ids": Limit(
        "rows with token ids beyond the model's embeddings",
        0.0, 0.0,
        "tokenizer and model do not belong together",
    ),
    # the run
    "no_validation": Limit(
        "validation splits that were asked for and hold no row",
        0.0, None,
        "nothing will show overfitting: raise validation_share, or look why its rows were dropped",
    ),
    "batch": Limit(
        "rows in a global batch, against rows of the set",
        1.0, None,
        "an epoch is a single step: lower per_device_train_batch_size or gradient_accumulation_steps",
    ),
    "warmup": Limit(
        "steps of warm-up, against all steps",
        0.5, 0.95,
        "the learning rate would hardly be reached: lower warmup_steps or train longer",
    ),
    "memory": Limit(
        "estimated memory, against what is free on the device",
        0.9, 1.25,
        "lower per_device_train_batch_size or --max_length, switch on gradient_checkpointing, or --load_in_4bit true",
    ),
    "disk": Limit(
        "estimated bytes of checkpoints, against what is free",
        0.9, 1.0,
        "free space, or lower save_total_limit",
    ),
    "time": Limit(
        "estimated time, against a week",
        1.0, 4.0,
        "train on fewer rows or epochs, or on more devices",
    ),
}
# fmt: on
WEEK_SECONDS = 7 * 24 * 3600.0
EXAMPLES = 5


@dataclass(frozen=True)
class Finding:
    """What one check counted. `rows` are the ids of the first rows it counted."""

    name: str
    count: float
    total: float
    rows: tuple[str, ...] = ()
    detail: str = ""

    @property
    def share(self) -> float:
        return self.count / self.total if self.total else 0.0

    @property
    def level(self) -> Level:
        limit = LIMITS[self.name]
        if limit.refuse is not None and self.share > limit.refuse:
            return "error"
        return "warning" if limit.warn is not None and self.share > limit.warn else "ok"

    @property
    def told(self) -> str:
        """Count, total and share as one reads them."""
        if self.name == "time":
            return f"{duration(self.count)} of {duration(self.total)}"
        if self.name in ("memory", "disk"):
            return f"{self.count / 1e9:.1f} of {self.total / 1e9:.1f} GB"
        return f"{self.count:,.0f} of {self.total:,.0f} ({self.share:.1%})"

    def as_dict(self) -> dict[str, Any]:
        """The finding as run.json holds it."""
        return {**asdict(self), "share": self.share, "level": self.level}


@dataclass
class _Tally:
    """A finding while it is being counted."""

    count: int = 0
    total: int = 0
    rows: list[str] = field(default_factory=list)

    def add(self, hit: object, row: str) -> None:
        self.total += 1
        if hit:
            self.count += 1
            if len(self.rows) < EXAMPLES and row not in self.rows:
                self.rows.append(row)


class _Tallies(defaultdict[str, _Tally]):
    """Findings by name while they are being counted."""

    def __init__(self) -> None:
        super().__init__(_Tally)

    def findings(self) -> Iterator[Finding]:
        for name, tally in self.items():
            yield Finding(name, tally.count, tally.total, tuple(tally.rows))


# -------------------------------------------------------------------- the set


def imitated_turns(row: Row) -> tuple[Sequence[Message], list[int]]:
    """The messages that a row teaches to say, and the indices of the trained ones: a chat's, or a pair's chosen side."""
    if isinstance(row, Chat):
        messages, start = row.messages, 0
    else:
        messages, start = (*row.prompt, *row.chosen), len(row.prompt)
    return messages, [t for t in range(start, len(messages)) if messages[t].loss_weight > 0]


_ERROR = re.compile(
    r'\s*(\[?(error|traceback|exception)\b[^\n]{0,60}:|\{\s*"error"\s*:\s*+(?!null|false|""|\[\]|\{\}))', re.I
)


def turn_failed(messages: Sequence[Message], t: int) -> bool | None:
    """Whether a call of turn t was answered by an error; None where nothing was answered."""
    ids = {call.id for call in messages[t].tool_calls}
    results = [m for m in messages[t + 1 :] if m.role == "tool" and m.tool_call_id in ids]
    return any(_ERROR.match(result.content) for result in results) if results else None


def call_fault(call: ToolCall, parameters: Mapping[str, Any] | None) -> str | None:
    """Why a call does not fit its tool's JSON Schema, by names alone; null arguments are another check."""
    if parameters is None:
        return "undeclared"
    known, extra, required = (parameters.get(key) for key in ("properties", "additionalProperties", "required"))
    if isinstance(required, list) and any(name not in call.arguments for name in required if isinstance(name, str)):
        return "missing"
    if isinstance(known, dict) and known and not extra:
        return (
            "unknown" if any(name not in known for name in call.arguments if call.arguments[name] is not None) else None
        )
    return None


def _has_invented_null(call: ToolCall, parameters: Mapping[str, Any]) -> bool:
    known = parameters.get("properties")
    if not isinstance(known, dict) or not known:
        return False
    for name, value in call.arguments.items():
        if value is None:
            schema = known.get(name)
            if schema is None or (isinstance(schema, dict) and not _takes_null(schema)):
                return True
    return False


def _takes_null(schema: Mapping[str, Any]) -> bool:
    if "type" not in schema or schema.get("nullable") or ("default" in schema and schema["default"] is None):
        return True
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    values = schema.get("enum")
    return "null" in kinds or (isinstance(values, list) and None in values)


def _has_null_schema(parameters: Any) -> bool:
    """Whether a property stands in a schema with null where its own schema should be, at any depth."""
    if isinstance(parameters, dict):
        properties = parameters.get("properties")
        if isinstance(properties, dict) and None in properties.values():
            return True
        return any(_has_null_schema(value) for value in parameters.values())
    return isinstance(parameters, list) and any(map(_has_null_schema, parameters))


def audit_turns(rows: Iterable[Row], control_texts: Collection[str]) -> Iterator[Finding]:
    """What the trained turns of `rows` hold."""
    tallies = _Tallies()
    control = re.compile("|".join(map(re.escape, sorted(control_texts, key=len, reverse=True))) or r"(?!)")
    for row in with_progress(rows, "auditing turns"):
        messages, trained = imitated_turns(row)
        tools = {tool.function.name: tool.function.parameters for tool in row.tools}
        invented = any(map(_has_null_schema, tools.values()))
        for t in trained:
            message = messages[t]
            silent = not (message.content.strip() or message.tool_calls or (message.reasoning_content or "").strip())
            tallies["empty_turns"].add(silent, row.id)
            failed = turn_failed(messages, t)
            if failed is not None:
                tallies["failed_steps"].add(failed, row.id)
            for call in message.tool_calls:
                parameters = tools.get(call.name)
                fault = call_fault(call, parameters)
                tallies["undeclared_tools"].add(fault == "undeclared", row.id)
                if parameters is not None:
                    tallies["unfit_calls"].add(fault, row.id)
                    invented = invented or _has_invented_null(call, parameters)
            words = [
                message.content,
                message.reasoning_content or "",
                *_strings([c.arguments for c in message.tool_calls]),
            ]
            tallies["control_text"].add(any(map(control.search, words)), row.id)
            tallies["inline_think"].add(_holds_thought(message), row.id)
        for message in row.rejected if isinstance(row, PreferencePair) else ():
            if message.loss_weight > 0:
                tallies["inline_think"].add(_holds_thought(message), row.id)
        if trained:
            tallies["null_filled"].add(invented, row.id)
            asked = any(m.content.strip() for m in messages[: trained[0]] if m.role in ("user", "tool"))
            tallies["no_question"].add(not asked, row.id)
            doubled = any(t and messages[t - 1].role == "assistant" and not messages[t - 1].tool_calls for t in trained)
            tallies["doubled_turns"].add(doubled, row.id)
    yield from tallies.findings()


_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_THINK_TAG = re.compile(r"</?think>|\[/?THINK\]|</?seed:think>|◁/?think▷", re.I)


def _holds_thought(message: Message) -> bool:
    """Whether the words of a turn hold the tags of a think block. In code they are only spoken of."""
    thought = _THINK_TAG.match((message.reasoning_content or "").strip())
    return thought is not None or _THINK_TAG.search(_CODE.sub("", message.content)) is not None


def _strings(value: Any) -> Iterator[str]:
    """All strings in a JSON value, and its numbers as text; keys are not values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _digest(value: object) -> bytes:
    return hashlib.blake2b(json.dumps(value, sort_keys=True, default=str).encode(), digest_size=16).digest()


def question_key(row: Row) -> bytes:
    """What a row asks, without case and white space: its tools' names, and what is said before the assistant first speaks."""
    asked = [("tools", " ".join(sorted(tool.function.name for tool in row.tools)))]
    for message in row.messages if isinstance(row, Chat) else row.prompt:
        if message.role == "assistant":
            break
        asked.append((message.role, " ".join(message.content.casefold().split())))
    return _digest(asked)


def audit_repetition(train: Sequence[Row], validation: Sequence[Row], *, copies: int) -> Iterator[Finding]:
    """Rows that occur twice, in one split or in both, and words that occur nearly always.

    `copies` is how many repetitions the mixture's weights asked for.
    """
    seen: Counter[bytes] = Counter()
    targets: Counter[bytes] = Counter()
    first_id: dict[bytes, str] = {}
    repeated: list[str] = []
    for row in with_progress(train, "auditing repetition"):
        key = _digest(row.model_dump(mode="json", exclude={"id", "source", "licence", "group", "trunk", "margin"}))
        seen[key] += 1
        # Copies that were asked for have their original's id; without any, rows of one id are repetitions, too.
        repeats = seen[key] > 1 and (copies == 0 or row.id != first_id[key])
        if repeats and len(repeated) < EXAMPLES and row.id not in repeated:
            repeated.append(row.id)
        first_id.setdefault(key, row.id)
        messages, trained = imitated_turns(row)
        targets[_digest(what_is_said([messages[t] for t in trained]))] += 1
    twice = max(sum(seen.values()) - len(seen) - copies, 0)
    yield Finding("duplicates", twice, len(train), tuple(repeated) if twice else ())
    asked = {question_key(row) for row in train}
    if len(train) >= 20 and len(asked) > 1:
        yield Finding("same_target", max(targets.values()), len(train))
    leaks = _Tally()
    for row in validation:
        leaks.add(question_key(row) in asked, row.id)
    yield Finding("validation_in_train", leaks.count, leaks.total, tuple(leaks.rows))


# -------------------------------------------------------------------- pairs


def audit_pairs(pairs: Sequence[PreferencePair]) -> Iterator[Finding]:
    """Sides that are the wrong way round, by the record of the pairs themselves and by what their calls look like."""
    tallies = _Tallies()
    failures = _recorded_failures(pairs)
    keys = [(_digest(what_is_said(p.prompt)), _said(p.chosen), _said(p.rejected)) for p in pairs]
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
    return _digest([said for said in what_is_said(messages) if said["role"] == "assistant"])


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
                failures.add((pair.trunk, _digest(what_is_said(pair.prompt[:t])), _said([message])))
    return failures


def _looks_faulty(pair: PreferencePair, side: Sequence[Message]) -> bool:
    """Whether a side's first turn calls against the schema, or with long values that occur nowhere before it."""
    tools = {tool.function.name: tool.function.parameters for tool in pair.tools}
    if any(call_fault(call, tools.get(call.name)) for call in side[0].tool_calls):
        return True
    before = words_of("\n".join(_texts(pair.prompt)))
    return any(
        len(words) > 2 and words not in before
        for words in (words_of(value) for value in _strings([call.arguments for call in side[0].tool_calls]))
    )


def _texts(messages: Iterable[Message]) -> Iterator[str]:
    for message in messages:
        yield message.content
        yield from _strings([call.arguments for call in message.tool_calls])


# -------------------------------------------------------------------- the benchmark's tasks


def words_of(text: str) -> str:
    """Words with one blank between them, so that case, white space and punctuation do not count."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def read_test_tasks(path: str | Path) -> Reference:
    """The tasks of a JSON Lines file that `python -m benchmark tasks` wrote, ready to be looked for as curation does.

    Only `instruction` is required.

    Raises:
        UserError: with file and line, if the file cannot be read, holds no task, or a line has no instruction.
    """
    for line, task in read_jsonl(path):
        if isinstance(task, BadLine):
            raise UserError(str(task))
        words = task.get("instruction") if isinstance(task, dict) else None
        if not isinstance(words, str) or not words.strip():
            raise UserError(
                f"{path}:{line}: a task is an object with the text field 'instruction', as `python -m benchmark tasks` "
                "writes it"
            )
    return Reference(Decontaminate(against=[str(path)]))


def audit_test_tasks(rows: Iterable[Row], tasks: Reference) -> Finding:
    """How many of the tasks occur in `rows`."""
    found: set[str] = set()
    examples: list[str] = []
    for row in with_progress(rows, "looking for test tasks"):
        here = {match.reference for match in tasks.matches(record_to_row(row))}
        found |= here
        if here and len(examples) < EXAMPLES:
            examples.append(row.id)
    return Finding("test_tasks", len(found), len(tasks.items), tuple(examples))


# -------------------------------------------------------------------- what was rendered


def audit_rendering(
    prepared: Prepared,
    rendered: Mapping[str, Sequence[Rendered]],
    reports: Mapping[str, RenderReport],
    renderer: Renderer,
    *,
    max_tokens: int | None,
    served_stop_ids: Collection[int],
    window: int | None,
    vocabulary: int,
) -> Iterator[Finding]:
    """Rows that were dropped or cut, and sequences that could not be learned from, of both splits together.

    Args:
        served_stop_ids: at which the model's own generation_config stops.
        window: the longest sequence that the model takes, in tokens; null where it has no such limit.
        vocabulary: rows of the model's embeddings.
    """
    read = sum(report.read for report in reports.values())
    kept = sum(report.kept for report in reports.values())
    dropped: Counter[str] = Counter()
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    for report in reports.values():
        for reason, count in report.dropped.items():
            dropped[_family(reason)] += count
            reasons[_family(reason)][reason] += count
    examples = _dropped_rows(prepared, rendered, renderer, max_tokens) if dropped else {}
    tallies = _Tallies()
    for row in (row for split in rendered.values() for row in split):
        sequences = [sequence for side in row.sides for sequence in side]
        ends = {end for ids, weights in sequences for end in _ends(ids, weights)}
        tallies["no_stop_token"].add(not ends <= set(renderer.stop_ids), row.id)
        tallies["stop_not_served"].add(not ends <= set(served_stop_ids), row.id)
        tallies["unknown_ids"].add(any(max(ids) >= vocabulary for ids, _ in sequences), row.id)
        if window is not None:
            tallies["context_window"].add(max(len(ids) for ids, _ in sequences) > window, row.id)
        if len(row.sides) == 2:
            tallies["same_sides"].add(_scored(row.sides[0]) == _scored(row.sides[1]), row.id)
    unstopped = tallies.pop("no_stop_token", _Tally())
    yield from tallies.findings()
    for name in ("template_loses", "no_stop_token", "dropped"):
        more = unstopped if name == "no_stop_token" else _Tally()
        why = "; ".join(f"{reason}: {count:,}" for reason, count in reasons[name].most_common(3))
        rows = tuple([*more.rows, *examples.get(name, [])][:EXAMPLES])
        yield Finding(name, dropped[name] + more.count, read, rows, why)
    parts = sum((report.lost for report in reports.values()), Counter())
    why = "; ".join(f"{part}: {count:,}" for part, count in parts.most_common())
    yield Finding("lost_context", sum(report.lost_rows for report in reports.values()), kept, (), why)
    yield Finding("cut", sum(report.cut_rows for report in reports.values()), kept)
    lost = sum(report.dropped_targets for report in reports.values())
    turns = sum(len(imitated_turns(row)[1]) for row in (*prepared.train, *prepared.validation))
    yield Finding("lost_turns", lost, turns)
    tokens = sum(report.tokens for report in reports.values())
    scored = sum(report.scored_tokens for report in reports.values())
    yield Finding("little_scored", tokens - scored, tokens)
    yield Finding("all_scored", scored, tokens)


def _family(reason: str) -> str:
    """The check that a reason of data/render.py belongs to."""
    if "no stop token" in reason:
        return "no_stop_token"
    return "template_loses" if reason.startswith("the template ") else "dropped"


def _dropped_rows(
    prepared: Prepared, rendered: Mapping[str, Sequence[Rendered]], renderer: Renderer, max_tokens: int | None
) -> dict[str, list[str]]:
    """Ids of some dropped rows by check. Reports hold only counts, so some rows are rendered again to learn their reason."""
    examples: dict[str, list[str]] = defaultdict(list)
    kept = {row.id for split in rendered.values() for row in split}
    dropped = (row for row in (*prepared.train, *prepared.validation) if row.id not in kept)
    for row in islice(dropped, 50):
        render = renderer.chat_to_tree if isinstance(row, Chat) else renderer.pair_to_tree
        tree = render(row, max_tokens=max_tokens)
        if isinstance(tree, Skip) and row.id not in examples[_family(tree.reason)]:
            examples[_family(tree.reason)].append(row.id)
    return examples


def _ends(ids: Sequence[int], weights: Sequence[float]) -> Iterator[int]:
    """The last token of each stretch of scored tokens."""
    for at, weight in enumerate(weights):
        if weight > 0 and (at + 1 == len(weights) or weights[at + 1] == 0):
            yield ids[at]


def _scored(side: Sequence[tuple[Sequence[int], Sequence[float]]]) -> list[int]:
    return [token for ids, weights in side for token, weight in zip(ids, weights, strict=True) if weight > 0]


# -------------------------------------------------------------------- the run


def audit_plan(plan: Plan, prepared: Prepared, rendered: Mapping[str, Sequence[Rendered]]) -> Iterator[Finding]:
    """What the run itself would stumble over."""
    asked_for = (prepared.manifest.get("config") or {}).get("validation_share", 0) > 0
    yield Finding("no_validation", int(asked_for and not rendered["validation"]), int(asked_for))
    yield Finding("batch", plan.global_batch, plan.rows)
    yield Finding("warmup", plan.warmup_steps, plan.steps)
    yield Finding("memory", plan.memory, plan.memory_free)
    yield Finding("disk", plan.disk, plan.disk_free)
    yield Finding("time", plan.seconds, WEEK_SECONDS)
    by_choice = ("outcome is ", "left out by weight ")
    read = dropped = 0
    reasons: Counter[str] = Counter()
    for source in prepared.manifest.get("sources", []):
        read += source["read"]
        for reason, count in source["dropped"].items():
            if reason.startswith(by_choice):
                read -= count
            else:
                dropped += count
                reasons[reason] += count
    why = "; ".join(f"{reason}: {count:,}" for reason, count in reasons.most_common(3))
    yield Finding("dropped_at_build", dropped, read, (), why)


# -------------------------------------------------------------------- all of it


def audit(
    prepared: Prepared,
    rendered: Mapping[str, Sequence[Rendered]],
    reports: Mapping[str, RenderReport],
    plan: Plan,
    renderer: Renderer,
    model: Any,
    *,
    max_tokens: int | None,
    tasks: Reference | None,
) -> list[Finding]:
    """All findings of a run, those within their limits too, in the order of `LIMITS`."""
    rows = (*prepared.train, *prepared.validation)
    config = model.config.get_text_config()
    served = model.generation_config.eos_token_id
    findings = [
        *audit_turns(rows, control_texts(renderer)),
        *audit_repetition(prepared.train, prepared.validation, copies=_copies(prepared)),
        *(audit_pairs(rows) if prepared.kind == "pair" else ()),
        *([audit_test_tasks(rows, tasks)] if tasks is not None else ()),
        *audit_rendering(
            prepared, rendered, reports, renderer,
            max_tokens=max_tokens,
            served_stop_ids=served if isinstance(served, list) else [] if served is None else [served],
            window=getattr(config, "max_position_embeddings", None),
            vocabulary=shape_of(model.get_input_embeddings().weight)[0],
        ),
        *audit_plan(plan, prepared, rendered),
    ]  # fmt: skip
    order = {name: place for place, name in enumerate(LIMITS)}
    return sorted(findings, key=lambda finding: order[finding.name])


def control_texts(renderer: Renderer) -> set[str]:
    """Texts that the template writes as single tokens, and that a trained turn must not hold as plain text."""
    added = renderer.tokenizer.added_tokens_decoder.values()
    texts = {token.content for token in added if token.special or token.content in renderer.tokenizer.chat_template}
    html = {"<s>", "</s>", "<unk>", "<pad>"}  # people write these for other reasons
    return {text for text in texts if text.strip() and text not in html} | {"<tool_call>", "[TOOL_CALLS]"}


def _copies(prepared: Prepared) -> int:
    return int(prepared.manifest["splits"]["train"].get("copies", 0))


def check_allowed(names: Collection[str]) -> None:
    """Refuse names that are no finding.

    Raises:
        UserError: naming the nearest right one.
    """
    for name in names:
        if name not in LIMITS:
            raise UserError(
                f"--audit_allow {name}: there is no such finding.{nearest(name, LIMITS)} All: docs/audit.md"
            )


def refusal(findings: Iterable[Finding], allowed: Collection[str]) -> str | None:
    """Why a run is refused, or None: each error that is not allowed, with its rows and what to do."""
    errors = [finding for finding in findings if finding.level == "error" and finding.name not in allowed]
    if not errors:
        return None
    names = " ".join(finding.name for finding in errors)
    told = "\n".join(f"  {explain(finding)}" for finding in errors)
    return (
        f"the audit refuses this run\n{told}\nTo train all the same, knowingly: --audit_allow {names} "
        "(limits: docs/audit.md)"
    )


def print_findings(console: Console, findings: Sequence[Finding], allowed: Collection[str]) -> None:
    """What is above its limit as a table, then each that does not refuse the run (`refusal` tells the others) in words."""
    found = [finding for finding in findings if finding.level != "ok"]
    if not found:
        console.print(f"  audit: {len(findings)} checks, nothing found")
        return
    table = Table(title="audit", title_justify="left")
    for name in ("finding", "level", "found", "limit"):
        table.add_column(name, justify="right" if name in ("found", "limit") else "left")
    for finding in found:
        level = "allowed" if finding.name in allowed else finding.level
        table.add_row(finding.name, level, finding.told, _percent(_limit_of(finding)))
    console.print(table)
    for finding in found:
        if finding.level == "warning" or finding.name in allowed:
            console.print(f"  {explain(finding)}", markup=False)  # ids may hold [brackets]


def _limit_of(finding: Finding) -> float | None:
    limit = LIMITS[finding.name]
    return limit.refuse if finding.level == "error" else limit.warn


def explain(finding: Finding) -> str:
    """One finding in one line: what was counted, against which limit, in which rows, and what to do."""
    limit = LIMITS[finding.name]
    rows = f" Rows: {', '.join(printable(row)[:100] for row in finding.rows)}." if finding.rows else ""
    why = f" ({finding.detail})" if finding.detail else ""
    return (
        f"{finding.name}: {finding.told} {limit.counted}{why}; the limit is {_percent(_limit_of(finding))}.{rows} "
        f"{limit.advice[0].upper()}{limit.advice[1:]}."
    )


def _percent(share: float | None) -> str:
    return "never" if share is None else f"{100 * share:g} %"


def limits_to_markdown() -> str:
    """The table of docs/audit.md."""
    lines = [
        "| finding | what is counted, and out of what | warns above | refuses above | what to do |",
        "|---|---|--:|--:|---|",
    ]
    for name, limit in LIMITS.items():
        advice = limit.advice.replace("|", "\\|")
        lines.append(f"| `{name}` | {limit.counted} | {_percent(limit.warn)} | {_percent(limit.refuse)} | {advice} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(limits_to_markdown())
