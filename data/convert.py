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
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator
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
    adapt_chunk,
    adapter_named,
    chunks_for,
    not_commercial,
    why_not_commercial,
)
from data.adapters.mapping import Mapping, mapped_row
from data.adapters.row_keys import NO_RULES, KeyCounts, KeyRules, key_rules
from data.adapters.turns import TURN_KEYS
from data.chats import Chat, PreferencePair, Skip
from data.config import read_config
from data.errors import UserError, nearest
from data.inputs import Chunk, Input, find_input
from data.output import count_rows, print_table, save_counts, write_lines
from data.progress import with_progress
from data.records import BadLine

Licence = Literal["commercial"]
AUTO = "auto"
ROWS_TO_RECOGNISE = 100
BAD_ROWS_SHOWN = 3
CHUNKS_AHEAD_PER_WORKER = 2


# --- which adapter ---


def find_adapter(spec: str, source: Input, *, may_import: bool) -> tuple[Adapter, str]:
    """The adapter that `spec` stands for, and for `auto` how it was recognised (else an empty text).

    Args:
        spec: a name in `ADAPTERS`, `auto`, a mapping (FILE.yaml), or a function of the user's (module:function).
        may_import: whether module:function is allowed, which runs code. Only a command line says so, never a file.

    Raises:
        UserError: if there is none, or `auto` finds none or several.
    """
    if spec == AUTO:
        return _recognised(source)
    if spec.endswith((".yaml", ".yml")):
        return _mapping_adapter(Path(spec)), ""
    if ":" in spec:
        if not may_import:
            raise UserError(
                f"adapter {spec!r}: a function of your own is named on the command line only (`convert --adapter {spec}`); "
                "the file that it writes is read by the adapter 'chats' or 'pairs'"
            )
        return _function_adapter(spec), ""
    return adapter_named(spec), ""


def _recognised(source: Input) -> tuple[Adapter, str]:
    if source.hub_id is not None:
        own = [a for a in ADAPTERS.values() if a.hub_id and a.hub_id.lower() == source.hub_id.lower()]
        if len(own) == 1:
            return own[0], f"{source.hub_id} is its dataset"
        if own:
            raise UserError(f"{source.name}: {len(own)} adapters read it; choose one: {', '.join(a.name for a in own)}")
    rows = source.first_rows(ROWS_TO_RECOGNISE)
    if not rows:
        raise UserError(f"{source.name}: holds no row that is an object, so there is nothing to recognise")
    fits = {a.name: fit for a in ADAPTERS.values() if a.matches is not None and (fit := a.matches(rows)) is not None}
    most = max((fit.columns for fit in fits.values()), default=0)
    best = [name for name, fit in fits.items() if fit.columns == most]
    if len(best) == 1:
        return ADAPTERS[best[0]], fits[best[0]].reason
    if best:
        reasons = "\n".join(f"  --adapter {name}: {fits[name].reason}" for name in best)
        raise UserError(f"{source.name}: {len(best)} adapters fit equally well; choose one:\n{reasons}")
    raise UserError(
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
        done.rows += 1
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


_convert_in_worker: Callable[[Chunk], _Converted]


def _start_worker(spec: str, source: Input, licence: Licence | None, rules: KeyRules) -> None:
    """Look the adapter up anew: a function inside it may be of a kind that cannot be sent to another process."""
    global _convert_in_worker
    sys.path.insert(0, os.getcwd())
    adapter, _ = find_adapter(spec, source, may_import=True)
    _convert_in_worker = partial(_convert_chunk, adapter, licence, rules)


def _work(chunk: Chunk) -> _Converted:
    return _convert_in_worker(chunk)


@contextmanager
def _pool(
    workers: int, spec: str, source: Input, licence: Licence | None, rules: KeyRules
) -> Iterator[ProcessPoolExecutor | None]:
    if workers == 1:
        yield None
        return
    pool = ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(spec, source, licence, rules))
    try:
        pool.submit(os.getpid).result()  # all processes start now, while the bar that shows progress has no thread yet
        yield pool
    except BrokenProcessPool:
        raise UserError(f"{source.name}: a worker was killed, often because memory ran out; try fewer") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _converted(
    adapter: Adapter,
    source: Input,
    pool: ProcessPoolExecutor | None,
    *,
    workers: int,
    licence: Licence | None,
    rules: KeyRules,
) -> Iterator[_Converted]:
    """All chunks in their order."""
    chunks = chunks_for(adapter, source)
    if pool is None or adapter.name == "trajectory":  # whose ids are compared over a whole file
        line_of_id: dict[str, int] = {}
        path = ""
        for chunk in chunks:
            if chunk.path != path:
                path = chunk.path
                line_of_id.clear()
            yield _convert_chunk(adapter, licence, rules, chunk, line_of_id)
        return
    ahead: deque[Future[_Converted]] = deque()
    ahead_at_most = CHUNKS_AHEAD_PER_WORKER * workers
    for chunk in chunks:
        ahead.append(pool.submit(_work, chunk))
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
    if out.is_dir():
        raise UserError(f"{out}: is a folder; name a file in it")
    if out.resolve() in [file.resolve() for file in source.files]:
        raise UserError(f"{out}: is one of the inputs")
    chosen, why = find_adapter(adapter, source, may_import=True)
    if why:
        print(f"{source.name}: read as {chosen.name}, because {why}")
    if licence == "commercial" and (refused := why_not_commercial(chosen)):
        raise UserError(f"--licence commercial refuses {refused}")
    spec = chosen.name if adapter == AUTO else adapter
    quarantine = out.with_suffix(".bad.jsonl")
    partial_out = out.with_name(out.name + ".partial")
    rows, kept, bad, nulls = 0, 0, 0, 0
    keys = KeyCounts()
    dropped = Counter[str]()
    first_bad: list[BadLine] = []
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            open(partial_out, "wb") as file,
            open(quarantine, "w", encoding="utf-8") as bad_file,
            _pool(workers, spec, source, licence, rules) as pool,
        ):
            chunks = _converted(chosen, source, pool, workers=workers, licence=licence, rules=rules)
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
                    bad_file.write(json.dumps(entry, ensure_ascii=False) + "\n")
                if max_bad is not None and bad > max_bad:
                    raise UserError(
                        f"{bad} bad rows, and --max_bad is {max_bad}:\n{_listed(first_bad, bad, quarantine)}"
                    )
        reasons = [f"  {count} x {reason}" for reason, count in dropped.most_common()]
        reasons += [_listed(first_bad, bad, quarantine)] if bad else []
        if not kept:
            why_none = "\n".join(reasons) or "  there was nothing to read"
            raise UserError(f"{source.name}: no row of {rows} can be kept:\n{why_none}")
        os.replace(partial_out, out)
    finally:
        partial_out.unlink(missing_ok=True)
        if not bad:
            quarantine.unlink(missing_ok=True)
    if bad:
        print(_listed(first_bad, bad, quarantine))
    if nulls:
        print(f"keys that held null inside structs were left out in {nulls} rows, as Arrow invents such keys")
    return {
        "adapter": chosen.name,
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
    }


def _listed(first: list[BadLine], count: int, quarantine: Path) -> str:
    shown = "".join(f"\n  {line}" for line in first)
    more = f"\n  and {count - len(first)} more" if count > len(first) else ""
    return f"{count} bad rows are in {quarantine}:{shown}{more}"


KEYS_SHOWN = 20


def print_keys(counts: dict[str, Any]) -> None:
    """Which columns and keys of turns were not read, and which keys that judge answers said nothing, each with its rows."""
    for key, rows in counts["not_judged"].items():
        print(f"{key}: says nothing in {rows} rows, which are kept")
    unread = list(counts["not_read"].items())
    if unread:
        print_table(("not read", "rows"), unread[:KEYS_SHOWN])
    if len(unread) > KEYS_SHOWN:
        print(f"and {len(unread) - KEYS_SHOWN} more keys that were not read")


# --- the commands ---


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
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Read past this key, whatever it says of a row; repeatable.")
    ] = None,
    good_from: Annotated[
        list[str] | None,
        typer.Option("--good-from", metavar="KEY=NUMBER", help="Answers below this number are bad; repeatable."),
    ] = None,
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
    rules = key_rules(ignore or (), good_from or ())
    counts = convert(found, out, adapter=adapter, workers=workers, max_bad=max_bad, licence=licence, rules=rules)
    if counts["rows"] != counts["read"]:
        print(f"{counts['rows']} rows gave {counts['read']} results")
    bad = {"bad row": counts["bad"]} if counts["bad"] else {}
    shown = {**counts, "dropped": {**counts["dropped"], **bad}}
    print_table(("source", "rows", "count"), count_rows(source, shown))
    print_keys(counts)
    print(f"wrote {out} and {save_counts(out, counts)}")


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
        write_lines(out, iter(catalogue().splitlines()))
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
