"""The exact results of every sample row, and the one command that writes them down: tests/samples/NAME.expected.json.

    python tests/support/golden.py alpaca dolly_15k      # or --all: shows what changes and writes it
    python tests/support/golden.py alpaca --dry-run      # only shows it

Read the diff against what the format means before you commit it: the file says what is right, not what came out. No test
writes these files.

`results` hold one entry a result, with `row`, the number of the row it came from (the first one where an adapter groups
rows), and either `skip`, the reason, or `bad`, why the row is refused, or the whole chat or pair. A field that is left out
has exactly its default: no weight of its own, no reasoning, no calls, null, an empty text, no tools, a tool without
parameters. Further keys stand where they are needed:

* `auto`: the adapter that `--adapter auto` takes for these rows, where that is not this one; null where none or several fit.
* `of_any_outcome`: for adapters of runs, what rows give beyond or instead of `results` where runs of any outcome are asked for.
* `runs`: for formats that tell which calls failed, the runs that KPIs are measured on.
"""

from __future__ import annotations

import argparse
import difflib
import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path[:0] = map(str, Path(__file__).resolve().parents[1:3])  # this checkout, whatever is installed

from core.errors import UserError
from core.json_lines import BadLine
from data.chats import Chat, PreferencePair, Result, Skip
from data.formats.adapter import Adapter
from data.formats.catalogue import ADAPTERS
from data.formats.inputs import find_input
from data.formats.reading import adapt_chunk, chunks_for
from data.formats.recognise import find_adapter
from data.records import Outcome
from support.paths import SAMPLES

OTHER_FILE = {"trajectory": "trajectories"}
LINE_LENGTH = 120


def sample_file(name: str) -> Path:
    return SAMPLES / f"{OTHER_FILE.get(name, name)}.jsonl"


def expected_file(name: str) -> Path:
    return SAMPLES / f"{name}.expected.json"


def results_of(adapter: Adapter, path: Path) -> list[tuple[int, Result | BadLine]]:
    """What an adapter makes of a file, each with the number of its row, through the reader that every command uses."""
    results: list[tuple[int, Result | BadLine]] = []
    line_of_id: dict[str, int] = {}
    for chunk in chunks_for(adapter, find_input(str(path))):
        for number, made in adapt_chunk(adapter, chunk, line_of_id=line_of_id):
            results += [(number, result) for result in ([made] if isinstance(made, BadLine) else made)]
    return results


def entry_of(number: int, result: Result | BadLine) -> dict[str, Any]:
    if isinstance(result, Skip):
        return {"row": number, "skip": result.reason}
    if isinstance(result, BadLine):
        return {"row": number, "bad": result.reason}
    fields = result.model_dump(mode="json", exclude_defaults=True)
    last = ("tools", "messages", "prompt", "chosen", "rejected")  # the short fields first
    return {"row": number} | {key: fields[key] for key in sorted(fields, key=lambda key: key in last)}


def result_of(entry: dict[str, Any]) -> Chat | PreferencePair:
    """The chat or pair of an entry of `results`, with all its defaults."""
    fields = {key: value for key, value in entry.items() if key != "row"}
    return (Chat if "messages" in fields else PreferencePair).model_validate(fields)


def auto_of(path: Path) -> str | None:
    try:
        return find_adapter("auto", find_input(str(path)), may_import=False)[0].name
    except UserError:
        return None


def golden_of(name: str) -> dict[str, Any]:
    """What the code makes of an adapter's sample rows, in the layout of expected.json."""
    adapter, path = ADAPTERS[name], sample_file(name)
    results = [entry_of(number, result) for number, result in results_of(adapter, path)]
    golden: dict[str, Any] = {} if (auto := auto_of(path)) == name else {"auto": auto}
    golden["results"] = results
    if "outcomes" in inspect.signature(adapter.function).parameters:
        function: Callable[..., Any] = adapter.function
        any_outcome = replace(adapter, function=partial(function, outcomes=frozenset(Outcome)))
        entries = [entry_of(number, result) for number, result in results_of(any_outcome, path)]
        golden["of_any_outcome"] = [entry for entry in entries if entry not in results]
    if adapter.runs is not None:
        golden["runs"] = [
            {"row": number, "skip": run.reason}
            if isinstance(run, Skip)
            else entry_of(number, run.chat)
            | {"outcome": str(run.outcome), "failed": sorted(run.failed)}
            | {"ended": {call: time.isoformat() for call, time in run.ended.items()}}
            for chunk in chunks_for(adapter, find_input(str(path)))
            for number, row in chunk.rows()
            if isinstance(row, dict)
            for run in adapter.runs(row)
        ]
    return golden


def laid_out(value: Any, indent: int = 0, key: str = "") -> str:
    """JSON with every value on one line where it fits, else its parts on lines of their own."""
    line = key + json.dumps(value, ensure_ascii=False, allow_nan=False)
    if not isinstance(value, dict | list) or not value or (indent and indent + len(line) < LINE_LENGTH):
        return line
    inner = " " * (indent + 2)
    if isinstance(value, dict):
        parts = [
            laid_out(item, indent + 2, f"{json.dumps(name, ensure_ascii=False)}: ") for name, item in value.items()
        ]
        opening, closing = "{", "}"
    else:
        parts = [laid_out(item, indent + 2) for item in value]
        opening, closing = "[", "]"
    return key + opening + "\n" + ",\n".join(inner + part for part in parts) + "\n" + " " * indent + closing


def golden_text(name: str) -> str:
    return laid_out(golden_of(name)) + "\n"


def difference(name: str, want: str, got: str) -> str:
    lines = (want.splitlines(), got.splitlines(), f"{name}.expected.json", f"what {name} gives")
    return "\n".join(difflib.unified_diff(*lines, lineterm="", n=5))


def main() -> None:
    parser = argparse.ArgumentParser(description="Write tests/samples/NAME.expected.json anew and show what changed.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="adapters")
    parser.add_argument("--all", action="store_true", help="all adapters")
    parser.add_argument("--dry-run", action="store_true", help="only show what would change")
    args = parser.parse_args()
    if unknown := [name for name in args.names if name not in ADAPTERS]:
        parser.error(f"no adapter {unknown[0]!r}")
    if not args.names and not args.all:
        parser.error("name adapters, or --all")
    for name in ADAPTERS if args.all else args.names:
        file = expected_file(name)
        want = file.read_text(encoding="utf-8") if file.exists() else ""
        if changes := difference(name, want, got := golden_text(name)):
            print(changes)  # noqa: T201 - the command's result
            if not args.dry_run:
                file.write_text(got, encoding="utf-8")


if __name__ == "__main__":
    main()
