"""Rows through an adapter:
what its function makes of them and what their other keys say, with source, licence and reasons.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from core.errors import UserError
from core.json_lines import BadLine
from data.chats import Chat, Label, PreferencePair, Result, Skip
from data.formats.adapter import Adapter
from data.formats.catalogue import ADAPTERS
from data.formats.inferred_tools import with_inferred_tools
from data.formats.inputs import Chunk, Input, find_input, neighbours, whole_files
from data.formats.judgements import is_nothing, shown, with_last_answer_only
from data.formats.model_terms import maker_of, why_model_not_commercial
from data.formats.parts import Row, Unrepresentable, tools_of, value_in, with_reasoning
from data.formats.preference import SAME
from data.formats.ratings import Ratings
from data.formats.row_keys import (
    CONTAINERS,
    NO_RULES,
    KeyCounts,
    KeyRules,
    Meaning,
    Undecided,
    in_usual_spelling,
    look_at_row,
    meaning_of,
    name_of,
    without_ignored_weights,
)
from data.formats.traces import FAILED, rows_by_conversation, without_beginnings

if TYPE_CHECKING:
    from data.contribution.names import Names


def adapt(adapter: Adapter, row: Row, *, rules: KeyRules = NO_RULES, counts: KeyCounts | None = None) -> list[Result]:
    """What an adapter makes of a row and of what its other keys say, with a source and a licence written into each result.

    Args:
        rules: what the user said of keys that cannot be judged.
        counts: takes what was not read.

    Raises:
        Undecided: where a key may say that the answer is bad and its value does not tell.
        UserError: where a row of a format of ours does not hold what that format promises.
    """
    results = _adapt(adapter, row, rules, KeyCounts() if counts is None else counts)
    why = why_model_not_commercial(row) if rules.commercial else None
    return results if why is None else [result if isinstance(result, Skip) else Skip(why) for result in results]


def _adapt(adapter: Adapter, row: Row, rules: KeyRules, counts: KeyCounts) -> list[Result]:
    if adapter.reads_all:
        return [_stamped(adapter, result) for result in _rated(_made(adapter, row), row, rules)]
    if adapter.spans is not None:
        spans = row["rows"] if isinstance(row.get("rows"), list) else [span for _, span in adapter.spans(row)]
        if adapter.of_conversation is not None:
            spans = adapter.of_conversation(spans)
        made = [(span, _adapt_one(adapter, span, rules, counts)) for span in spans]
        bad = [chat for span, results in made for chat in _bad_answers(adapter, span, results)]
        results = without_beginnings([result for _, results in made for result in results], bad)
        return _of_log(adapter, results, row, rules, counts) or [Skip("an export without spans")]
    if adapter.joins_rows and isinstance(row.get("rows"), list):
        for each in row["rows"]:
            name = adapter.not_read(each) if adapter.not_read is not None and isinstance(each, dict) else None
            if name is not None:
                counts.unread[name] += 1
            elif isinstance(each, dict):
                look_at_row(each, adapter.reader, rules, counts)
        results = _of_log(adapter, _rated(_made(adapter, row), row, rules), row, rules, counts)
        return [_stamped(adapter, result) for result in results]
    return _of_log(adapter, _adapt_one(adapter, row, rules, counts), row, rules, counts)


def _adapt_one(adapter: Adapter, row: Row, rules: KeyRules, counts: KeyCounts) -> list[Result]:
    if adapter.any_spelling:
        row = in_usual_spelling(row, adapter.reader.columns)
    if rules.ignore:
        row = without_ignored_weights(row, adapter.reader, rules, counts)
    facts = look_at_row(row, adapter.reader, rules, counts)
    if isinstance(facts, Skip):
        return [facts]
    made = _rated([facts.put_into(result) for result in _made(adapter, row)], row, rules)
    truth = name_of_truth(row) if made and all(result == NO_ANSWER for result in made) else None
    if truth is not None and truth not in adapter.reader.columns:
        return [Skip(f"{truth} without an answer: a task for RL")]
    return [_stamped(adapter, result) for result in _with_tools_in_details(adapter, row, made)]


NO_ANSWER = Skip("no word of an assistant")
_TRUTHS = frozenset({
    "answer", "answers", "solution", "solutions", "expected_answer", "reference", "reference_answer", "golden_answers",
    "target", "verifier_metadata",
})  # fmt: skip
"""Keys that hold what a reward is computed from, in rows of which nobody answers; beside an answer they say nothing of it."""


def name_of_truth(row: Row) -> str | None:
    """The column that holds what an answer would be compared with, null where there is none."""
    return min((key for key in row if name_of(key) in _TRUTHS and not is_nothing(row[key])), default=None)


def _with_tools_in_details(adapter: Adapter, row: Row, results: Sequence[Result]) -> Sequence[Result]:
    """Results whose row has its tools in a column of details (`metadata`, as NVIDIA's sets) and nowhere else."""
    if all(isinstance(result, Skip) or result.tools for result in results):
        return results
    for column in sorted(CONTAINERS - adapter.reader.columns):
        try:
            details = value_in(row.get(column), "")
            tools = tools_of(details.get("tools")) if isinstance(details, dict) else ()
        except Unrepresentable:
            continue
        if tools:
            return [
                result if isinstance(result, Skip) or result.tools else result.model_copy(update={"tools": tools})
                for result in results
            ]
    return results


def _rated(results: Sequence[Result], row: Row, rules: KeyRules) -> Sequence[Result]:
    """What another file says of answers: of a good one, the chat in which it alone is learned; else a Skip, or with
    `labelled` the bad answer as a chat that is labelled so."""
    if rules.ratings is None:
        return results
    return [_rated_one(result, row, rules.ratings, labelled=rules.labelled) for result in results]


def _rated_one(result: Result, row: Row, ratings: Ratings, *, labelled: bool) -> Result:
    if not isinstance(result, Chat):
        return result
    lines = [row, *(line for line in row.get("rows") or () if isinstance(line, dict))]
    named = [str(line[key]) for line in lines for key in line if name_of(key) == name_of(ratings.on)]
    keys = [*dict.fromkeys(named), result.id, result.group]
    told = [ratings.is_good[key] for key in keys if key is not None and key in ratings.is_good]
    if not told:
        return Skip("no rating of this answer")
    if told[0] is None:
        return Skip("a rating that is neither good nor bad")
    if not told[0] and not labelled:
        return Skip(f"rated in the file of labels: {BAD}")
    label: Label | None = None if not labelled else "good" if told[0] else "bad"
    return result.model_copy(update={"messages": with_last_answer_only(result.messages), "label": label})


BAD = "a bad answer"
_FAILED = ("status", "level")
"""Columns of spans that say that a request failed."""


def _bad_answers(adapter: Adapter, span: Row, results: Sequence[Result]) -> list[Chat]:
    """The chats of a span that was left out for what it says, so that longer chats do not learn its answer either."""
    labelled = [result for result in results if isinstance(result, Chat) and result.label == "bad"]
    if labelled:
        return labelled
    reasons = [result.reason for result in results if isinstance(result, Skip)]
    if len(reasons) < len(results) or not any(r.endswith(BAD) or r == FAILED for r in reasons):
        return []
    bare = {key: value for key, value in span.items() if key not in _FAILED}
    return [result for result in _made(adapter, bare) if isinstance(result, Chat)]


def _made(adapter: Adapter, row: Row) -> Sequence[Result]:
    made = adapter.function(row)
    results = [made] if isinstance(made, Skip | Chat | PreferencePair) else made
    assert results, f"{adapter.name} returned nothing; a row that gives nothing is a Skip"
    return [_with_reasoning(result) for result in results]


def _of_log(adapter: Adapter, results: Sequence[Result], row: Row, rules: KeyRules, counts: KeyCounts) -> list[Result]:
    """Results of a log with the tools that nobody declared, as their calls show them, and with placeholders for secrets and for
    names of users and machines in all that was said and called. A name has one placeholder in all of them."""
    if not adapter.is_log or not any(isinstance(result, Chat) for result in results):
        return list(results)
    completed = iter(with_inferred_tools([result for result in results if isinstance(result, Chat)]))
    results = [next(completed) if isinstance(result, Chat) else result for result in results]
    if not rules.redact:
        return results
    from data.contribution.names import Names, texts_in  # noqa: PLC0415 - as below
    from data.contribution.redaction import redact_value  # noqa: PLC0415 - its patterns take a while, and few rows are logs

    chats = [result for result in results if isinstance(result, Chat)]
    names = Names.told_by(texts_in(row), (pair for chat in chats for pair in commands_of(chat)))
    redacted: list[Result] = []
    for result in results:
        if not isinstance(result, Chat):
            redacted.append(result)
            continue
        written = result.model_dump(mode="json", include={"messages", "tools"})
        made, found = redact_value(written)
        counts.redacted.update(finding.kind for finding in found)
        _keep_ids_apart(result, made["messages"])
        without_names(made, names)
        is_changed = bool(found) or bool(names.found)
        redacted.append(Chat.model_validate({**dict(result), **made}) if is_changed else result)
    counts.redacted.update(names.found)
    return redacted


def _keep_ids_apart(chat: Chat, redacted: list[Row]) -> None:
    """Give calls with a secret in their id another one, since placeholders of two secrets may be the same."""
    ids: dict[str | None, str | None] = {None: None}
    for message, made in zip(chat.messages, redacted, strict=True):
        for call, written in zip(message.tool_calls, made["tool_calls"], strict=True):
            ids[call.id] = written["id"] if written["id"] == call.id else f"redacted_{len(ids)}"
            written["id"] = ids[call.id]
        made["tool_call_id"] = ids[message.tool_call_id]


def without_names(chat: Row, names: Names) -> None:
    """Put placeholders for names into the messages and tools of a chat that is written as JSON."""
    for message in chat["messages"] if names else ():
        for key in ("content", "reasoning_content"):
            message[key] = names.without(message[key])
        for call in message["tool_calls"]:
            call["arguments"] = names.without(call["arguments"])
    for tool in chat["tools"] if names else ():
        for key in ("description", "parameters"):
            if key in tool["function"]:
                tool["function"][key] = names.without(tool["function"][key])


def commands_of(chat: Chat) -> Iterator[tuple[str, str]]:
    """Calls of one text alone, such as a command, with what they gave back."""
    calls = {call.id: call.arguments for message in chat.messages for call in message.tool_calls}
    for message in chat.messages:
        arguments = calls.get(message.tool_call_id or "", {})
        for text in arguments.values():
            if isinstance(text, str):
                yield text, message.content


def _with_reasoning(result: Result) -> Result:
    """The result with thoughts that stand in texts as reasoning, whoever read the texts."""
    parts = ("messages",) if isinstance(result, Chat) else ("prompt", "chosen", "rejected")
    if isinstance(result, Skip) or not any("think>" in m.content for part in parts for m in getattr(result, part)):
        return result
    try:
        if isinstance(result, Chat):
            return result.model_copy(update={"messages": with_reasoning(result.messages)})
        prompt = with_reasoning(result.prompt)
        sides = {side: with_reasoning(getattr(result, side), prompt) for side in ("chosen", "rejected")}
        return PreferencePair.model_validate({**dict(result), "prompt": prompt, **sides})
    except Unrepresentable as reason:
        return Skip(str(reason))
    except ValidationError:  # the one thing that can have become wrong
        return Skip(SAME)


def _stamped(adapter: Adapter, result: Result) -> Result:
    if isinstance(result, Skip):
        return result
    if adapter.hub_id is None:
        source = result.source or adapter.called or adapter.name
    else:
        source = f"{adapter.name}/{result.source}" if result.source else adapter.name
    # The adapter made it just now and nobody else holds it, so it need not be copied, which would take a tenth of all time.
    result.__dict__["source"] = source
    if result.licence is None:
        result.__dict__["licence"] = adapter.terms.licence
    return result


def adapt_chunk(
    adapter: Adapter,
    chunk: Chunk,
    *,
    line_of_id: dict[str, int] | None = None,
    rules: KeyRules = NO_RULES,
    counts: KeyCounts | None = None,
) -> Iterator[tuple[int, list[Result] | BadLine]]:
    """Each row of a chunk with its number, as what the adapter makes of it, or as a `BadLine`.

    Bad are: what is no JSON or no object, what does not hold the promises of a format of ours, and a row on which the adapter
    fails. For trajectories also an id that `line_of_id` has already; it is filled on the way.

    Raises:
        UserError: where keys of rows may say that an answer is bad and do not tell; it names all of them in this chunk.
    """
    ids = line_of_id if adapter.name == "trajectory" else None
    undecided: dict[str, list[tuple[int, Any]]] = {}
    for number, row in chunk.rows():
        if isinstance(row, BadLine):
            yield number, row
            continue
        if not isinstance(row, dict):
            yield number, BadLine(chunk.path, number, f"a row is a JSON object, got {type(row).__name__}")
            continue
        try:
            results = adapt(adapter, row, rules=rules, counts=counts)
        except Undecided as keys:
            for key, value in keys.values.items():
                undecided.setdefault(key, []).append((number, value))
            continue  # to the last row of the chunk, so that one message names all keys and some of their values
        except UserError as error:
            yield number, BadLine(chunk.path, number, str(error))
            continue
        except Exception as error:  # one strange row of a million must not end the work on the others; it is reported
            fault = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            yield number, BadLine(chunk.path, number, f"the adapter {adapter.name} failed on it: {fault}")
            continue
        if ids is not None and ids.setdefault(row["id"], number) != number:
            reason = f"id {row['id']!r} stands already on line {ids[row['id']]}"
            yield number, BadLine(chunk.path, number, reason)
            continue
        if not undecided:
            yield number, results
    if undecided:
        raise UserError(undecided_message(chunk.path, undecided))


def chunks_for(adapter: Adapter, source: Input) -> Iterator[Chunk]:
    """The chunks of an input, with rows of one thing put together where the adapter asks for that."""
    if adapter.spans is not None:
        return rows_by_conversation(source, adapter.spans)
    chunks = source.chunks()
    if adapter.whole_file:
        return whole_files(chunks)
    return chunks if adapter.group_by is None else neighbours(chunks, adapter.group_by)


def read_adapted(
    adapter: Adapter, source: Input | str | Path, *, rules: KeyRules = NO_RULES, counts: KeyCounts | None = None
) -> Iterator[tuple[int, Result]]:
    """Every row of an input that must be clean, as (number of the row in its file, from 1; what the adapter makes of it).

    Raises:
        UserError: at the first bad row, naming file:line.
    """
    line_of_id: dict[str, int] = {}
    path = ""
    for chunk in chunks_for(adapter, source if isinstance(source, Input) else find_input(str(source))):
        if chunk.path != path:
            path = chunk.path
            line_of_id.clear()
        for number, results in adapt_chunk(adapter, chunk, line_of_id=line_of_id, rules=rules, counts=counts):
            if isinstance(results, BadLine):
                advice = f"\n{_ADVICE}" if adapter.name == "trajectory" else ""
                raise UserError(f"{results}{advice}")
            for result in results:
                yield number, result


_ADVICE = "`python -m data validate` lists every bad line of a file."


def why_not_commercial(adapter: Adapter) -> str | None:
    """Why a source cannot be used for a commercial model, or null where nothing is known against it."""
    if adapter.terms.non_commercial:
        return f"{adapter.name}: its licence ({adapter.terms.licence}) forbids commercial use"
    if adapter.terms.openai_derived:
        return f"{adapter.name}: models of OpenAI wrote its answers, and their terms forbid training competing models"
    if adapter.hub_id is not None and adapter.terms.licence is None:
        return f"{adapter.name}: its publisher states no licence"
    return None


_NON_COMMERCIAL = re.compile(
    r"\b(nc|non-?commercial(ly)?|no-commercial(-use)?|not-for-commercial|research(-use|-purposes?)?-only|academic-use(-only)?|academic-only)\b"
    r"|비-?상업|비-?영리|상업적-?(이용|사용|목적)-?(금지|불가|제한)|연구-?(용|목적)"
)


def why_row_not_commercial(licence: str | None, source: str) -> str | None:
    """The same of one row, as it travels with the row: by its licence, and by the source that it names."""
    if licence is not None and _NON_COMMERCIAL.search(re.sub(r"[\s_]+", "-", licence.lower())):
        return f"not commercial: licence {licence}"
    part, _, model = source.partition("/")
    adapter = ADAPTERS.get(part)
    if adapter is not None and why_not_commercial(adapter):
        return f"not commercial: source {adapter.name}"
    if part == CAPTURED and (maker := maker_of(model)) is not None:
        return f"not commercial: a model of {maker} answered"
    return None


CAPTURED = "capture"
"""The source of chats that `benchmark capture` recorded; behind a slash it names the model."""


def not_commercial(result: Chat | PreferencePair) -> Skip | None:
    """That of a result, as a Skip."""
    reason = why_row_not_commercial(result.licence, result.source)
    return None if reason is None else Skip(reason)


VALUES_SHOWN = 4


def undecided_message(where: str, found: dict[str, list[tuple[int, Any]]]) -> str:
    """One message for all keys that cannot be judged: `found` has the line and value of each row, by key."""
    lines = [f"{where}: keys that change what a row means hold values that do not tell what to do with it:"]
    for key, seen in found.items():
        values = list(dict.fromkeys(shown(value) for _, value in seen))
        more = ", ..." if len(values) > VALUES_SHOWN else ""
        rows = f"{len(seen)} rows so far" if len(seen) > 1 else "1 row so far"
        lines.append(f"  {key}: {', '.join(values[:VALUES_SHOWN])}{more} (line {seen[0][0]}, {rows})")
    key = next(iter(found))
    lines.append(f"`--ignore {key}` reads past a key; in a build's YAML: `ignore: [{key}]`.")
    answers = [key for key in found if meaning_of(key.rpartition(".")[2]) is Meaning.JUDGEMENT]
    if answers:
        lines.append(
            f"`--good-from {answers[0]}=0.5` keeps answers from that number on (`good_from: {{{answers[0]}: 0.5}}`). Without "
            'it, true, 1 and "true" are good, and false, 0 and -1 are bad.'
        )
    return "\n".join(lines)
