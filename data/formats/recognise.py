"""Which adapter reads an input:
the one that was named, a mapping, a function of the user's, or the one that fits its rows.
"""

from __future__ import annotations

import importlib
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from core.config import read_config
from core.errors import UserError, first_line, nearest
from data.chats import Chat, PreferencePair, Skip
from data.formats.adapter import Adapter, Terms
from data.formats.catalogue import ADAPTERS, adapter_named
from data.formats.inputs import Input, NoRows
from data.formats.judgements import is_nothing
from data.formats.mapping import Mapping, mapped_row
from data.formats.parts import Fit, Row
from data.formats.reading import adapt, name_of_truth
from data.formats.row_keys import KeyRules, Meaning, Undecided, has_side, meaning_of
from data.formats.turns import TURN_KEYS

AUTO = "auto"
ROWS_TO_RECOGNISE = 100
ROWS_WITH_AN_ODD_ONE = 5
"""From so many sampled rows on, a single one does not decide against the format that rests on more columns."""


@dataclass(frozen=True)
class RecognisedPart:
    """Files of an input that one adapter reads."""

    source: Input
    adapter: Adapter
    why: str = ""
    """How `auto` recognised it; empty where the user named it."""
    kept_share: float = 1.0
    """Which share of the rows that `auto` looked at it keeps."""


def find_parts(spec: str, source: Input, *, may_import: bool) -> list[RecognisedPart]:
    """The files of an input with the adapter that reads each; `auto` decides for every file by itself.

    Args:
        spec: a name in `ADAPTERS`, `auto`, a mapping (FILE.yaml), or a function of the user's (module:function).
        may_import: whether module:function is allowed, which runs code. Only a command line says so, never a file.

    Raises:
        UserError: if there is none, or `auto` finds none or several for a file, or some files hold chats and others pairs.
    """
    if spec == AUTO:
        return _recognised_parts(source)
    if spec.endswith((".yaml", ".yml")):
        return [RecognisedPart(source, _mapping_adapter(Path(spec)))]
    if ":" in spec:
        if not may_import:
            raise UserError(
                f"adapter {spec!r}: a function of your own is named on the command line only (`convert --adapter {spec}`); "
                "the file that it writes is read by the adapter 'chats' or 'pairs'"
            )
        return [RecognisedPart(source, _function_adapter(spec))]
    return [RecognisedPart(source, adapter_named(spec))]


def find_adapter(spec: str, source: Input, *, may_import: bool) -> tuple[Adapter, str]:
    """The one adapter that reads an input, and for `auto` how it was recognised (else an empty text).

    Raises:
        UserError: as `find_parts`, and where `auto` recognises several formats.
    """
    parts = find_parts(spec, source, may_import=may_import)
    names = {part.adapter.name for part in parts}
    if len(names) > 1:
        raise UserError(f"{source.name}: files of several formats:\n{_files_by_adapter(parts)}")
    return parts[0].adapter, parts[0].why


FILES_SHOWN = 4


def _files_by_adapter(parts: Sequence[RecognisedPart]) -> str:
    files: dict[str, list[str]] = {}
    for part in parts:
        files.setdefault(f"{part.adapter.kind}s ({part.adapter.name})", []).append(part.source.name)
    return "\n".join(f"  {what}: {_some(names)}" for what, names in files.items())


def _some(names: Sequence[object]) -> str:
    more = f" and {len(names) - FILES_SHOWN} more" if len(names) > FILES_SHOWN else ""
    return ", ".join(map(str, names[:FILES_SHOWN])) + more


def _recognised_parts(source: Input) -> list[RecognisedPart]:
    if source.hub_id is not None:
        own = [a for a in ADAPTERS.values() if a.hub_id and a.hub_id.lower() == source.hub_id.lower()]
        if len(own) == 1:
            return [RecognisedPart(source, own[0], f"{source.hub_id} is its dataset")]
        if own:
            raise UserError(f"{source.name}: {len(own)} adapters read it; choose one: {', '.join(a.name for a in own)}")
        return [_recognised(source)]
    parts: list[RecognisedPart] = []
    unknown: list[tuple[Input, UserError]] = []
    for file in source.files:
        one = Input(str(file), (file,))
        try:
            parts.append(_recognised(one))
        except NoRows:  # a part that a job left empty, beside others
            if file == source.files[-1] and not (parts or unknown):
                raise
        except _NotRecognised as error:
            unknown.append((one, error))
    if not parts:
        raise UserError(str(unknown[0][1]))
    if len({part.adapter.kind == "pair" for part in parts}) > 1:
        raise UserError(
            f"{source.name}: files of chats and files of pairs; convert them apart:\n{_files_by_adapter(parts)}"
        )
    if unknown and len({part.adapter.name for part in parts}) > 1:  # which of them should read it?
        raise UserError(f"{unknown[0][1]}\nThe other files are:\n{_files_by_adapter(parts)}")
    parts += [RecognisedPart(one, parts[0].adapter, "the other files are") for one, _ in unknown]
    return parts


class _NotRecognised(UserError):
    """No adapter knows the rows of a file."""


@dataclass
class _Candidate:
    """What an adapter makes of a sample."""

    adapter: Adapter
    fit: Fit
    kept: set[int]
    """Places of the sampled rows that it keeps."""
    lost: Counter[str]
    """Why it keeps the others not."""


# A failed run, a bad answer, a tie and a span of another kind were read as well as what is imitated.
_UNDERSTOOD = re.compile(
    r"\Aoutcome is |: a bad answer\Z|\Aboth sides |\Athe rejected side has the higher score|\Atie\b"
    r"|\Athe beginning of a longer chat|\Aa span that is no request|\Aan observation of type "
)


_AS_WRITTEN = KeyRules(redact=False)
"""What is only looked at need not be redacted."""


def _candidate(adapter: Adapter, fit: Fit, rows: Sequence[Row]) -> _Candidate:
    if adapter.joins_rows:  # of which a sample cuts some apart
        return _Candidate(adapter, fit, set(range(len(rows))), Counter())
    kept, lost = set[int](), Counter[str]()
    for place, row in enumerate(rows):
        if adapter.kind != "pair" and not adapter.reads_all and has_side(row, Meaning.REJECTED, beside=adapter.columns):
            lost["a rejected side"] += 1
            continue
        try:
            results = adapt(adapter, row, rules=_AS_WRITTEN)
        except Undecided:
            kept.add(place)
            continue
        except Exception as error:  # a row of another format may break it in any way
            lost[first_line(error)] += 1
            continue
        reasons = [result.reason for result in results if isinstance(result, Skip)]
        if len(reasons) < len(results) or any(map(_UNDERSTOOD.search, reasons)):
            kept.add(place)
        else:
            lost[reasons[0]] += 1
    return _Candidate(adapter, fit, kept, lost)


def _recognised(source: Input) -> RecognisedPart:
    """The adapter that keeps most of a sample; of several that keep as much, the one that rests on the most columns."""
    numbered = source.sample_rows(ROWS_TO_RECOGNISE)
    rows = [row for _, row in numbered]
    if not rows:
        raise _NotRecognised(f"{source.name}: holds no row that is an object, so there is nothing to recognise")
    fits = [(a, fit) for a in ADAPTERS.values() if a.matches is not None and (fit := a.matches(rows)) is not None]
    tried = [_candidate(adapter, fit, rows) for adapter, fit in fits]
    for each in tried:
        for other in tried:
            if other.fit.columns > each.fit.columns:
                each.kept -= other.fit.showing - other.kept
    _refuse_mixture(source, tried, numbered)
    most = max((len(each.kept) for each in tried), default=0)
    odd = int(len(rows) >= ROWS_WITH_AN_ODD_ONE)
    near = [each for each in tried if len(each.kept) >= most - odd * bool(most)]
    columns = max((each.fit.columns for each in near), default=0)
    best = [each for each in near if each.fit.columns == columns]
    best = [each for each in best if len(each.kept) == max(len(other.kept) for other in best)]
    if len(best) > 1:
        reasons = "\n".join(f"  --adapter {each.adapter.name}: {each.fit.reason}" for each in best)
        raise UserError(f"{source.name}: {len(best)} adapters fit equally well; choose one:\n{reasons}")
    if not best:
        raise _NotRecognised(_why_not_recognised(source, rows, tried))
    (won,) = best
    adapter = won.adapter.of_unknown_origin(_called(source)) if won.adapter.is_dataset else won.adapter
    return RecognisedPart(source, adapter, _why(won, tried, len(rows)), len(won.kept) / len(rows))


def _called(source: Input) -> str:
    """What rows of a file are called whose columns are those of a dataset, but which may be anybody's."""
    path = source.files[0] if source.files else Path(source.name)
    name = path.name.split(".")[0]
    return path.name if name in ADAPTERS or not name else name


def _why(won: _Candidate, tried: Sequence[_Candidate], rows: int) -> str:
    told = f"{won.fit.reason}; it keeps {len(won.kept)} of {rows} sampled rows"
    if won.lost:
        told += f" ({_most(won.lost)})"
    others = sorted((each for each in tried if each is not won), key=lambda each: -len(each.kept))[:2]
    for other in others:
        if len(other.kept) == len(won.kept):
            told += f"; {other.adapter.name} would keep as many and rests on fewer columns"
        else:
            told += (
                f"; {other.adapter.name} would keep {len(other.kept)} ({_most(other.lost) or 'calls it cannot read'})"
            )
    return told


def _most(lost: Counter[str]) -> str:
    return ", ".join(f"{count} x {reason}" for reason, count in lost.most_common(1))


def _refuse_mixture(source: Input, tried: Sequence[_Candidate], numbered: Sequence[tuple[int, Row]]) -> None:
    """Stop where some sampled rows are chats and others pairs.

    Raises:
        UserError: with the lines of both.
    """
    rows = [row for _, row in numbered]
    chats = set[int]().union(*(each.kept for each in tried if each.adapter.kind != "pair"))
    pairs = set[int]().union(*(each.kept for each in tried if each.adapter.kind == "pair"))
    pairs |= {place for place, row in enumerate(rows) if has_side(row, Meaning.REJECTED)}
    # A row with an empty rejected side is a pair that is not whole.
    chats = {place for place in chats if not any(meaning_of(key) is Meaning.REJECTED for key in rows[place])}
    if pairs - chats and chats - pairs:
        lines = [_some([numbered[place][0] for place in sorted(places)]) for places in (chats - pairs, pairs - chats)]
        raise UserError(
            f"{source.name}: rows of chats and rows of pairs in one file; put them into two files:\n"
            f"  chats: lines {lines[0]}\n  pairs: lines {lines[1]}"
        )


_PROMPTS = ("prompt", "problem", "question", "query", "input", "responses_create_params")


def _why_not_recognised(source: Input, rows: Sequence[Row], tried: Sequence[_Candidate]) -> str:
    tasks = [key for row in rows for key in row if meaning_of(key) is Meaning.TRUTH and not is_nothing(row[key])]
    if 2 * len(tasks) > len(rows):
        return (
            f"{source.name}: {len(tasks)} of {len(rows)} rows are tasks for RL with a verifiable reward ({tasks[0]}): prompts "
            "without an answer that could be imitated, so they are no data for SFT"
        )
    prompts = [row for row in rows if name_of_truth(row) and any(row.get(key) for key in _PROMPTS)]
    if not tried and 2 * len(prompts) > len(rows):
        truth = name_of_truth(prompts[0])
        return (
            f"{source.name}: {len(prompts)} of {len(rows)} rows are a prompt and {truth!r}: tasks for RL, with a result to "
            f"compare with, and no data for SFT. If {truth!r} is what a model should say, say so in a mapping "
            "(--adapter FILE.yaml with prompt and response)."
        )
    if tried:
        lost = "\n".join(f"  {each.adapter.name}: {_most(each.lost)}" for each in tried)
        return f"{source.name}: adapters know its columns, and none can keep a row of them:\n{lost}"
    return (
        f"{source.name}: no adapter recognises its rows, which have the columns {', '.join(map(str, rows[0]))}. Name one "
        "with --adapter (`python -m data adapters` lists them), or say with --adapter FILE.yaml which column is what."
    )


def _mapping_adapter(path: Path) -> Adapter:
    mapping = read_config(path, Mapping)
    turns = (mapping.messages, mapping.prompt, mapping.response, mapping.chosen, mapping.rejected)
    columns = (*turns, mapping.reasoning, mapping.system, mapping.tools, mapping.id, mapping.group)
    return Adapter(
        name=path.stem,
        kind="chat" if mapping.chosen is None else "pair",
        function=partial(mapped_row, mapping=mapping),
        columns=tuple(column for column in columns if column is not None),
        turns=tuple(column for column in turns if column is not None),
        turn_keys=TURN_KEYS - {"role", "content"} | {mapping.role_key, mapping.content_key},
        terms=Terms(licence=mapping.licence),
    )


def _tell_absent_columns(spec: str, part: RecognisedPart) -> None:
    """Name mapped columns that no sampled row has: they may be missing in a row, and one that is misspelt is in none."""
    present = {column for _, row in part.source.sample_rows(ROWS_TO_RECOGNISE) for column in row}
    for column in part.adapter.columns:
        if column not in present:
            print(f"{spec}: no sampled row has the column {column!r}.{nearest(column, sorted(present))}")


def _function_adapter(spec: str) -> Adapter:
    module_name, _, name = spec.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(f"--adapter {spec}: {error} (looked in {os.getcwd()} and the installed packages)") from None
    function = getattr(module, name, None)
    if not callable(function):
        raise UserError(f"--adapter {spec}: {module_name} has no function {name!r}.{nearest(name, vars(module))}")
    return Adapter(
        name=spec,
        kind="chat",
        function=partial(_checked, function, spec),
        columns=("as it reads them",),
        reads_all=True,
    )


def _checked(function: Callable[[Any], Any], spec: str, row: dict[str, Any]) -> Any:
    """What a user's function makes of a row, if it is what an adapter may return."""
    made = function(row)
    results = made if isinstance(made, list) else [made]
    for result in results:
        if not isinstance(result, Chat | PreferencePair | Skip):
            raise UserError(
                f"{spec} returned {type(result).__name__}, not a Chat, PreferencePair, Skip or list of them"
            )
    if not results:
        raise UserError(f"{spec} returned an empty list; a row that gives nothing is a Skip with its reason")
    return made
