"""Any source as chats or pairs, in one process or many.

    python -m data convert rows.jsonl.gz --out runs/rows.jsonl
    python -m data adapters

The input goes through in chunks (data/formats/inputs.py), so memory does not grow with its length, and the bytes of the
output do not depend on the number of workers.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from core.errors import UserError
from core.files import whole_result
from core.json_lines import BadLine
from core.screen import save_counts, with_progress
from data.chats import Chat, PreferencePair, Result, Skip
from data.formats.adapter import Adapter
from data.formats.inferred_tools import with_declared_tools
from data.formats.inputs import Chunk, Input
from data.formats.reading import adapt_chunk, chunks_for, not_commercial, why_not_commercial
from data.formats.recognise import AUTO, RecognisedPart, _tell_absent_columns, find_parts
from data.formats.row_keys import NO_RULES, KeyCounts, KeyRules
from data.models import read_tokenizer
from data.records import ToolSpec
from data.sets.windows import EMPTY_WINDOW, CountTokens, chat_to_windows, count_by_bytes

Licence = Literal["commercial"]
BAD_ROWS_SHOWN = 3
CHUNKS_AHEAD_PER_WORKER = 2


# --- the conversion ---


@dataclass(frozen=True)
class Shape:
    """What becomes of chats behind their adapters."""

    tools: tuple[ToolSpec, ...] = ()
    """Definitions of tools of which logs hold none."""
    split_long_tokens: int | None = None
    """The length of windows of longer chats; null leaves them whole."""
    tokenizer: str | None = None
    """The model whose tokens are counted for that; null estimates them."""

    def results(self, result: Result, counts: KeyCounts) -> list[Result]:
        """A result with these tools, and in windows, with a Skip for each one in which nothing is learned."""
        if not isinstance(result, Chat):
            return [result]
        if self.tools:
            result = with_declared_tools(result, self.tools)
        if self.split_long_tokens is None:
            return [result]
        count = count_by_bytes if self.tokenizer is None else _counter(self.tokenizer)
        windows = chat_to_windows(result, self.split_long_tokens, count)
        counts.too_long += windows.too_long
        return [*windows.chats, *[EMPTY_WINDOW] * windows.empty]


@cache
def _counter(model: str) -> CountTokens:
    tokenizer, _ = read_tokenizer(model)
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False))


AS_IT_IS = Shape()


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
    shape: Shape,
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
        for result in chain.from_iterable(shape.results(each, done.keys) for each in results):
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
    parts: Sequence[tuple[str, str | None]], source: Input, licence: Licence | None, rules: KeyRules, shape: Shape
) -> None:
    """Look the adapters up anew: a function inside one may be of a kind that cannot be sent to another process."""
    global _convert_in_worker
    sys.path.insert(0, os.getcwd())
    _convert_in_worker = []
    for spec, called in parts:
        (part,) = find_parts(spec, source, may_import=True)
        adapter = part.adapter if called is None else part.adapter.of_unknown_origin(called)
        _convert_in_worker.append(partial(_convert_chunk, adapter, licence, rules, shape))


def _work(part: int, chunk: Chunk) -> _Converted:
    return _convert_in_worker[part](chunk)


@contextmanager
def _pool(
    workers: int,
    parts: Sequence[tuple[str, str | None]],
    source: Input,
    licence: Licence | None,
    rules: KeyRules,
    shape: Shape,
) -> Iterator[ProcessPoolExecutor | None]:
    if workers == 1:
        yield None
        return
    pool = ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(parts, source, licence, rules, shape))
    try:
        pool.submit(os.getpid).result()  # all processes start now, while the bar that shows progress has no thread yet
        yield pool
    except BrokenProcessPool:
        raise UserError(f"{source.name}: a worker was killed, often because memory ran out; try fewer") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _converted(
    parts: Sequence[RecognisedPart],
    pool: ProcessPoolExecutor | None,
    *,
    workers: int,
    licence: Licence | None,
    rules: KeyRules,
    shape: Shape,
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
                yield _convert_chunk(part.adapter, licence, rules, shape, chunk, line_of_id)
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
    shape: Shape = AS_IT_IS,
) -> dict[str, Any]:
    """Write all chats or pairs of a source, one a line, and return the counts: read = kept + dropped by reason + bad.

    `out` appears only when it is whole. Bad rows go into the file beside it that ends in .bad.jsonl.

    Args:
        max_bad: stop when there are more bad rows than this; null never stops.
        licence: "commercial" refuses sources and rows that may not be used for a commercial model.
        rules: what to make of keys that may say that an answer is bad and hold a value that does not tell.
        shape: tools for chats that declare none, and how long chats are cut.

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
    rules = replace(rules, commercial=licence == "commercial")
    quarantine = out.with_suffix(".bad.jsonl")
    rows, kept, bad, nulls = 0, 0, 0, 0
    keys = KeyCounts()
    dropped = Counter[str]()
    first_bad: list[BadLine] = []
    why_refused = None
    with whole_result(out) as result, _pool(workers, specs, source, licence, rules, shape) as pool:
        file, bad_file = result.open(out), result.open(quarantine)
        chunks = _converted(parts, pool, workers=workers, licence=licence, rules=rules, shape=shape)
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
            **({"too_long": keys.too_long} if keys.too_long else {}),
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


def names_of(parts: Sequence[RecognisedPart]) -> str:
    """The adapters that read an input, each once."""
    return ", ".join(dict.fromkeys(part.adapter.name for part in parts))


WARN_BELOW = 0.9
PARTS_TOLD = 5


def _tell_recognised(parts: Sequence[RecognisedPart]) -> None:
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
