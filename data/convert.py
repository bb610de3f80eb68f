"""Any source as chats or pairs: which adapter reads it, the conversion in one process or many, and the two commands.

    python -m data convert rows.jsonl.gz --out runs/rows.jsonl
    python -m data adapters

The input goes through in chunks (data/inputs.py), so memory does not grow with its length, and the bytes of the output do
not depend on the number of workers.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import TypeAdapter

from data.adapters import (
    ADAPTERS,
    Adapter,
    adapt,
    adapt_chunk,
    adapter_named,
    chunks_for,
    not_commercial,
    why_not_commercial,
)
from data.adapters.mapping import Mapping, mapped_row
from data.adapters.parts import Fit, Row
from data.adapters.row_keys import (
    NO_RULES,
    KeyCounts,
    KeyRules,
    Meaning,
    Undecided,
    has_side,
    is_nothing,
    key_rules,
    meaning_of,
)
from data.adapters.turns import TURN_KEYS
from data.chats import Chat, PreferencePair, Skip
from data.config import read_config
from data.errors import UserError, first_line, nearest
from data.files import whole_result, write_whole
from data.inputs import Chunk, Input, NoRows, find_input
from data.output import count_rows, counts_path, print_table, save_counts
from data.progress import with_progress
from data.records import BadLine

Licence = Literal["commercial"]
AUTO = "auto"
ROWS_TO_RECOGNISE = 100
ROWS_WITH_AN_ODD_ONE = 5
"""From so many sampled rows on, a single one does not decide against the format that rests on more columns."""
BAD_ROWS_SHOWN = 3
CHUNKS_AHEAD_PER_WORKER = 2


# --- which adapter ---


@dataclass(frozen=True)
class Part:
    """Files of an input that one adapter reads."""

    source: Input
    adapter: Adapter
    why: str = ""
    """How `auto` recognised it; empty where the user named it."""
    kept_share: float = 1.0
    """Which share of the rows that `auto` looked at it keeps."""


def find_parts(spec: str, source: Input, *, may_import: bool) -> list[Part]:
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
        return [Part(source, _mapping_adapter(Path(spec)))]
    if ":" in spec:
        if not may_import:
            raise UserError(
                f"adapter {spec!r}: a function of your own is named on the command line only (`convert --adapter {spec}`); "
                "the file that it writes is read by the adapter 'chats' or 'pairs'"
            )
        return [Part(source, _function_adapter(spec))]
    return [Part(source, adapter_named(spec))]


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


def _files_by_adapter(parts: Sequence[Part]) -> str:
    files: dict[str, list[str]] = {}
    for part in parts:
        files.setdefault(f"{part.adapter.kind}s ({part.adapter.name})", []).append(part.source.name)
    return "\n".join(f"  {what}: {_some(names)}" for what, names in files.items())


def _some(names: Sequence[object]) -> str:
    more = f" and {len(names) - FILES_SHOWN} more" if len(names) > FILES_SHOWN else ""
    return ", ".join(map(str, names[:FILES_SHOWN])) + more


def _recognised_parts(source: Input) -> list[Part]:
    if source.hub_id is not None:
        own = [a for a in ADAPTERS.values() if a.hub_id and a.hub_id.lower() == source.hub_id.lower()]
        if len(own) == 1:
            return [Part(source, own[0], f"{source.hub_id} is its dataset")]
        if own:
            raise UserError(f"{source.name}: {len(own)} adapters read it; choose one: {', '.join(a.name for a in own)}")
        return [_recognised(source)]
    parts: list[Part] = []
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
    parts += [Part(one, parts[0].adapter, "the other files are") for one, _ in unknown]
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


def _candidate(adapter: Adapter, fit: Fit, rows: Sequence[Row]) -> _Candidate:
    if adapter.joins_rows:  # of which a sample cuts some apart
        return _Candidate(adapter, fit, set(range(len(rows))), Counter())
    kept, lost = set[int](), Counter[str]()
    for place, row in enumerate(rows):
        if adapter.kind != "pair" and not adapter.reads_all and has_side(row, Meaning.REJECTED, beside=adapter.columns):
            lost["a rejected side"] += 1
            continue
        try:
            results = adapt(adapter, row)
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


def _recognised(source: Input) -> Part:
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
    return Part(source, adapter, _why(won, tried, len(rows)), len(won.kept) / len(rows))


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


def _why_not_recognised(source: Input, rows: Sequence[Row], tried: Sequence[_Candidate]) -> str:
    tasks = [key for row in rows for key in row if meaning_of(key) is Meaning.TRUTH and not is_nothing(row[key])]
    if 2 * len(tasks) > len(rows):
        return (
            f"{source.name}: {len(tasks)} of {len(rows)} rows are tasks for RL with a verifiable reward ({tasks[0]}): prompts "
            "without an answer that could be imitated, so they are no data for SFT"
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
        licence=mapping.licence,
    )


def _tell_absent_columns(spec: str, part: Part) -> None:
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


# --- the conversion ---


@dataclass
class _Converted:
    """What became of a chunk, or of all of them."""

    lines: bytes = b""
    rows: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    bad: list[tuple[BadLine, str]] = field(default_factory=list)
    nulls: int = 0
    keys: KeyCounts = field(default_factory=KeyCounts)


_LINE: dict[type[Chat | PreferencePair], TypeAdapter[Any]] = {
    model: TypeAdapter(model) for model in (Chat, PreferencePair)
}


def _convert_chunk(
    adapter: Adapter,
    licence: Licence | None,
    rules: KeyRules,
    chunk: Chunk,
    line_of_id: dict[str, int] | None = None,
) -> _Converted:
    lines: list[bytes] = []
    done = _Converted()
    bad: list[BadLine] = []
    for _, results in adapt_chunk(adapter, chunk, line_of_id=line_of_id, rules=rules, counts=done.keys):
        # Spans are rows, though those of one conversation come together.
        done.rows += 1 if adapter.spans is None or isinstance(results, BadLine) else len(results)
        if isinstance(results, BadLine):
            bad.append(results)
            continue
        for result in results:
            if licence and not isinstance(result, Skip):
                result = not_commercial(result) or result
            if isinstance(result, Skip):
                done.dropped[result.reason] += 1
            else:
                lines.append(_LINE[type(result)].dump_json(result))
    if lines:
        done.lines = b"\n".join(lines) + b"\n"
    done.kept = len(lines)
    done.nulls = chunk.nulls
    done.bad = list(zip(bad, chunk.texts([line.line for line in bad]), strict=True))
    return done


_convert_in_worker: list[Callable[[Chunk], _Converted]]


def _start_worker(
    parts: Sequence[tuple[str, str | None]], source: Input, licence: Licence | None, rules: KeyRules
) -> None:
    """Look the adapters up anew: a function inside one may be of a kind that cannot be sent to another process."""
    global _convert_in_worker
    sys.path.insert(0, os.getcwd())
    _convert_in_worker = []
    for spec, called in parts:
        (part,) = find_parts(spec, source, may_import=True)
        adapter = part.adapter if called is None else part.adapter.of_unknown_origin(called)
        _convert_in_worker.append(partial(_convert_chunk, adapter, licence, rules))


def _work(part: int, chunk: Chunk) -> _Converted:
    return _convert_in_worker[part](chunk)


@contextmanager
def _pool(
    workers: int, parts: Sequence[tuple[str, str | None]], source: Input, licence: Licence | None, rules: KeyRules
) -> Iterator[ProcessPoolExecutor | None]:
    if workers == 1:
        yield None
        return
    pool = ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(parts, source, licence, rules))
    try:
        pool.submit(os.getpid).result()  # all processes start now, while the bar that shows progress has no thread yet
        yield pool
    except BrokenProcessPool:
        raise UserError(f"{source.name}: a worker was killed, often because memory ran out; try fewer") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _converted(
    parts: Sequence[Part],
    pool: ProcessPoolExecutor | None,
    *,
    workers: int,
    licence: Licence | None,
    rules: KeyRules,
) -> Iterator[_Converted]:
    """All chunks in their order."""
    ahead: deque[Future[_Converted]] = deque()
    ahead_at_most = CHUNKS_AHEAD_PER_WORKER * workers
    for index, part in enumerate(parts):
        line_of_id: dict[str, int] = {}
        path = ""
        for chunk in chunks_for(part.adapter, part.source):
            if pool is None or part.adapter.name == "trajectory":  # whose ids are compared over a whole file
                while ahead:
                    yield ahead.popleft().result()
                if chunk.path != path:
                    path = chunk.path
                    line_of_id.clear()
                yield _convert_chunk(part.adapter, licence, rules, chunk, line_of_id)
                continue
            ahead.append(pool.submit(_work, index, chunk))
            if len(ahead) >= ahead_at_most:  # so that a fast reader does not fill the memory
                yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


def convert(
    source: Input,
    out: Path,
    *,
    adapter: str = AUTO,
    workers: int = 1,
    max_bad: int | None = None,
    licence: Licence | None = None,
    rules: KeyRules = NO_RULES,
) -> dict[str, Any]:
    """Write all chats or pairs of a source, one a line, and return the counts: read = kept + dropped by reason + bad.

    `out` appears only when it is whole. Bad rows go into the file beside it that ends in .bad.jsonl.

    Args:
        max_bad: stop when there are more bad rows than this; null never stops.
        licence: "commercial" refuses sources and rows that may not be used for a commercial model.
        rules: what to make of keys that may say that an answer is bad and hold a value that does not tell.

    Raises:
        UserError: for a wrong name, an unreadable input, too many bad rows, a key that cannot be judged, or when no row can
            be kept.
    """
    if out.resolve() in [file.resolve() for file in source.files]:
        raise UserError(f"{out}: is one of the inputs")
    parts = find_parts(adapter, source, may_import=True)
    _tell_recognised(parts)
    if adapter.endswith((".yaml", ".yml")):
        _tell_absent_columns(adapter, parts[0])
    for part in parts:
        if licence == "commercial" and (refused := why_not_commercial(part.adapter)):
            raise UserError(f"--licence commercial refuses {refused}")
    # What a worker finds the adapter of each part by.
    specs = [(part.adapter.name if adapter == AUTO else adapter, part.adapter.called) for part in parts]
    quarantine = out.with_suffix(".bad.jsonl")
    rows, kept, bad, nulls = 0, 0, 0, 0
    keys = KeyCounts()
    dropped = Counter[str]()
    first_bad: list[BadLine] = []
    why_refused = None
    with whole_result(out) as result, _pool(workers, specs, source, licence, rules) as pool:
        file, bad_file = result.open(out), result.open(quarantine)
        chunks = _converted(parts, pool, workers=workers, licence=licence, rules=rules)
        for done in with_progress(chunks, f"converting {source.name}", size=lambda done: done.rows):
            file.write(done.lines)
            rows += done.rows
            kept += done.kept
            dropped.update(done.dropped)
            nulls += done.nulls
            keys.add(done.keys)
            bad += len(done.bad)
            first_bad += [line for line, _ in done.bad][: BAD_ROWS_SHOWN - len(first_bad)]
            for line, text in done.bad:
                entry = {"path": line.path, "line": line.line, "reason": line.reason, "text": text}
                bad_file.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
            if max_bad is not None and bad > max_bad:
                why_refused = f"{bad} bad rows, and --max_bad is {max_bad}:\n{_listed(first_bad, bad, quarantine)}"
                break
        counts = {
            "adapter": names_of(parts),
            "input": source.name,
            "revision": source.revision,
            "rows": rows,
            "read": kept + dropped.total() + bad,
            "kept": kept,
            "dropped": dict(dropped.most_common()),
            "bad": bad,
            "rows_with_null_keys_left_out": nulls,
            "not_read": dict(keys.unread.most_common()),
            "not_judged": dict(keys.not_judged.most_common()),
            "redacted": dict(keys.redacted.most_common()),
        }
        if not kept and why_refused is None:
            reasons = [f"  {count} x {reason}" for reason, count in dropped.most_common()]
            reasons += [_listed(first_bad, bad, quarantine)] if bad else []
            why_none = "\n".join(reasons) or "  there was nothing to read"
            why_refused = f"{source.name}: no row of {rows} can be kept:\n{why_none}"
        if not bad:
            result.remove(quarantine)
        if why_refused is None:
            save_counts(result, out, counts)
        else:
            result.forget(out)  # what an earlier run left there stays
    if why_refused is not None:
        raise UserError(why_refused)
    if bad:
        print(_listed(first_bad, bad, quarantine))
    if nulls:
        print(f"keys that held null inside structs were left out in {nulls} rows, as Arrow invents such keys")
    return counts


def names_of(parts: Sequence[Part]) -> str:
    """The adapters that read an input, each once."""
    return ", ".join(dict.fromkeys(part.adapter.name for part in parts))


WARN_BELOW = 0.9
PARTS_TOLD = 5


def _tell_recognised(parts: Sequence[Part]) -> None:
    """What `auto` found, and what to doubt."""
    told = [part for part in parts if part.why]
    for part in told[:PARTS_TOLD]:
        read = "read as" if part.adapter.called is None else "read in the layout of"
        print(f"{part.source.name}: {read} {part.adapter.name}, because {part.why}")
        if part.adapter.called is not None:
            print(
                f"  its columns alone give neither a name nor a licence; if it is that dataset, say so with "
                f"--adapter {part.adapter.name}"
            )
        if part.kept_share < WARN_BELOW:
            print(f"  warning: {1 - part.kept_share:.0%} of the sampled rows cannot be read so")
    if len(told) > PARTS_TOLD:
        print(f"and {len(told) - PARTS_TOLD} more files, as {names_of(told[PARTS_TOLD:])}")


def _listed(first: list[BadLine], count: int, quarantine: Path) -> str:
    shown = "".join(f"\n  {line}" for line in first)
    more = f"\n  and {count - len(first)} more" if count > len(first) else ""
    return f"{count} bad rows are in {quarantine}:{shown}{more}"


KEYS_SHOWN = 20


def print_keys(counts: dict[str, Any]) -> None:
    """Which columns and keys of turns were not read, and which keys that judge answers said nothing, each with its rows."""
    for key, rows in counts["not_judged"].items():
        print(f"{key}: says nothing in {rows} rows, which are kept")
    if counts["redacted"]:
        kinds = ", ".join(f"{count} {kind}" for kind, count in counts["redacted"].items())
        print(f"redacted: {kinds} (`--no-redact` leaves logs as they are; in a build's YAML: `redact: false`)")
    unread = list(counts["not_read"].items())
    if unread:
        print_table(("not read", "rows"), unread[:KEYS_SHOWN])
    if len(unread) > KEYS_SHOWN:
        print(f"and {len(unread) - KEYS_SHOWN} more keys that were not read")


# --- the commands ---

Ignore = Annotated[
    list[str] | None, typer.Option(metavar="KEY", help="Read past this key, whatever it says of a row; repeatable.")
]
GoodFrom = Annotated[
    list[str] | None,
    typer.Option("--good-from", metavar="KEY=NUMBER", help="Answers below this number are bad; repeatable."),
]
Redact = Annotated[
    bool, typer.Option("--redact/--no-redact", help="Replace secrets in logs of agents as they are read.")
]


def convert_command(
    source: Annotated[
        str, typer.Argument(metavar="INPUT", help="File, folder, pattern, or id of a dataset on the Hugging Face Hub.")
    ],
    out: Annotated[Path, typer.Option(help="File for the chats or pairs, one a line (JSON Lines).")],
    adapter: Annotated[
        str, typer.Option(help="auto, a name that `adapters` lists, FILE.yaml that maps columns, or module:function.")
    ] = AUTO,
    workers: Annotated[int, typer.Option(min=1, help="Processes; the output is the same for any number.")] = 1,
    max_bad: Annotated[int | None, typer.Option("--max_bad", min=0, help="Stop at more bad rows than this.")] = None,
    licence: Annotated[
        Licence | None, typer.Option(help="`commercial` refuses what may not be used for a commercial model.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a dataset on the hub.")] = None,
    subset: Annotated[str | None, typer.Option(help="Subset (config) of a dataset on the hub.")] = None,
    split: Annotated[str | None, typer.Option(help="Split of a dataset on the hub; without it, train.")] = None,
    ignore: Ignore = None,
    good_from: GoodFrom = None,
    redact: Redact = True,
) -> None:
    """Turn any source into chats or pairs.

    INPUT holds JSON Lines, JSON, CSV (each also as .gz or .zst) or Parquet. Rows that cannot be held are counted by reason;
    bad rows go into OUT's neighbour .bad.jsonl with file, line and reason, and the rest goes on. All counts are printed and
    saved beside OUT as .counts.json, with the columns and keys of turns that were not read.

    Answers that a key of their row calls bad (label, kto_tag, reward, score, success ...: false, 0, -1) are left out. Where
    such a key holds something else, the command stops and asks for --good-from or --ignore.

    Exit codes: 0 done, 2 wrong input or command line, too many bad rows, or no row left.

    \b
    Examples:
        python -m data convert glaive.json --out runs/glaive.jsonl
        python -m data convert rows.csv.gz --adapter my_columns.yaml --out runs/rows.jsonl
        python -m data convert HuggingFaceTB/smoltalk --subset all --revision main --out runs/smoltalk.jsonl
    """
    found = find_input(source, revision=revision, subset=subset, split=split)
    rules = key_rules(ignore or (), good_from or (), redact=redact)
    counts = convert(found, out, adapter=adapter, workers=workers, max_bad=max_bad, licence=licence, rules=rules)
    if counts["rows"] != counts["read"]:
        print(f"{counts['rows']} rows gave {counts['read']} results")
    bad = {"bad row": counts["bad"]} if counts["bad"] else {}
    shown = {**counts, "dropped": {**counts["dropped"], **bad}}
    print_table(("source", "rows", "count"), count_rows(source, shown))
    print_keys(counts)
    print(f"wrote {out} and {counts_path(out)}")


def adapters_command(
    markdown: Annotated[bool, typer.Option("--markdown", help="Write the catalogue as Markdown.")] = False,
    out: Annotated[Path | None, typer.Option(help="File for the Markdown; without it, it is printed.")] = None,
) -> None:
    """List the formats and datasets that can be read.

    \b
    Examples:
        python -m data adapters
        python -m data adapters --markdown --out docs/dataset-catalogue.md
    """
    if out is not None:
        write_whole(out, catalogue() + "\n")
        print(f"wrote {out}")
    elif markdown:
        print(catalogue())
    else:
        columns = ("name", "rows are", "dataset", "licence", "gated", "flags", "columns")
        rows = [
            (
                a.name,
                a.kind,
                a.hub_id or "any file",
                _licence_of(a),
                "gated" if a.gated else "",
                _flags(a),
                ", ".join(a.columns),
            )
            for a in ADAPTERS.values()
        ]
        print_table(columns, rows)


def _licence_of(adapter: Adapter) -> str:
    if adapter.licence is not None:
        return adapter.licence
    return "none stated" if adapter.hub_id else "the file's own"


def _flags(adapter: Adapter) -> str:
    flags = (("non-commercial", adapter.non_commercial), ("OpenAI-derived", adapter.openai_derived))
    return ", ".join(name for name, is_set in flags if is_set)


def catalogue() -> str:
    """docs/dataset-catalogue.md: all adapters as Markdown tables, one for each kind of source."""
    datasets = [a for a in ADAPTERS.values() if a.hub_id]
    parts = (
        ("Formats", "Any file in the format; its licence is its own.", [a for a in ADAPTERS.values() if not a.hub_id]),
        ("Datasets of chats", "For SFT.", [a for a in datasets if a.kind != "pair"]),
        ("Datasets of pairs", "For DPO and ORPO.", [a for a in datasets if a.kind == "pair"]),
    )
    lines = [_CATALOGUE_HEAD]
    for title, what, adapters in parts:
        lines += [f"## {title}", "", what, ""]
        lines += [
            "| name | rows are | dataset | licence | gated | columns that are read | known from | note |",
            "|---" * 8 + "|",
        ]
        for a in adapters:
            dataset = f"[{a.hub_id}](https://huggingface.co/datasets/{a.hub_id})" if a.hub_id else "any file"
            licence = _licence_of(a) + (f"; **{_flags(a)}**" if _flags(a) else "")
            columns = ", ".join(a.columns)
            cells = (f"`{a.name}`", a.kind, dataset, licence, "yes" if a.gated else "", columns, a.schema, a.note)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines).rstrip()


_CATALOGUE_HEAD = """# Dataset catalogue

Written by `python -m data adapters --markdown --out docs/dataset-catalogue.md` from the table in `data/adapters/__init__.py`.

*Known from* says how the columns are known: seen in **real rows**, read on **public pages** (a card or a well-known
loader), or **recalled** and not yet settled. No dataset was downloaded for this: where it says *public pages* or *recalled*,
the adapter has been tried only on rows that we wrote in that schema. Licences are what publishers state; they are no
advice. **Non-commercial** and **OpenAI-derived** sources, and those without a stated licence, are refused by
`--licence commercial`.
"""
