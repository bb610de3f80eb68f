"""`python -m data convert`, `build`, `pairs`, `export`, `adapters` and `schema`: from any source to a prepared set."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import IO, Annotated, Any, Literal

import typer

from core.config import read_config
from core.errors import UserError, nearest
from core.files import whole_result, write_whole
from core.screen import count_rows, counts_path, print_table, save_counts, with_progress, write_lines
from data.chats import PreferencePair, Skip
from data.formats.adapter import Adapter
from data.formats.catalogue import ADAPTERS
from data.formats.export import FORMATS, _exported
from data.formats.inferred_tools import read_tools
from data.formats.inputs import find_input
from data.formats.ratings import read_ratings
from data.formats.reading import BAD
from data.formats.recognise import AUTO
from data.formats.row_keys import KeyCounts, key_rules
from data.records import read_trajectories, trajectory_json_schema
from data.sets.build import BuildConfig, build
from data.sets.convert import Licence, Shape, convert
from data.sets.pair_kinds import KINDS, kinds_to_counts, read_kinds, records_to_kinds, with_shares
from data.trajectories import pairs_by_record

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

KEYS_SHOWN = 20


def print_keys(counts: dict[str, Any]) -> None:
    """Which columns and keys of turns were not read, and which keys that judge answers said nothing, each with its rows."""
    for key, rows in counts["not_judged"].items():
        print(f"{key}: says nothing in {rows} rows, which are kept")
    if counts["redacted"]:
        kinds = ", ".join(f"{count} {kind}" for kind, count in counts["redacted"].items())
        print(f"redacted: {kinds} (`--no-redact` leaves logs as they are; in a build's YAML: `redact: false`)")
    if counts.get("too_long"):
        print(
            f"too long: {counts['too_long']} windows hold a step that is longer than a window alone; they are kept whole"
        )
    unread = list(counts["not_read"].items())
    if unread:
        print_table(("not read", "rows"), unread[:KEYS_SHOWN])
    if len(unread) > KEYS_SHOWN:
        print(f"and {len(unread) - KEYS_SHOWN} more keys that were not read")


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
    tools: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON with definitions of the tools, for logs that hold none.")
    ] = None,
    split_long: Annotated[
        int | None,
        typer.Option(
            "--split-long", min=1, metavar="TOKENS", help="Cut longer chats into windows with system, tools, task."
        ),
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Whose tokens --split-long counts; without it, bytes tell.")
    ] = None,
    labels: Annotated[str | None, typer.Option(metavar="FILE", help="Ratings of the answers: CSV or any rows.")] = None,
    on: Annotated[str | None, typer.Option(metavar="COLUMN", help="What names the rated rows in both files.")] = None,
    labelled: Annotated[
        bool,
        typer.Option("--labelled", help="Keep answers that are called bad, as chats that are labelled so (for KTO)."),
    ] = False,
    good: Annotated[str | None, typer.Option(metavar="RULE", help='Ratings of good answers, as "value>=1".')] = None,
    bad: Annotated[str | None, typer.Option(metavar="RULE", help='Ratings of bad ones, as "value<=0".')] = None,
) -> None:
    """Turn any source into chats or pairs.

    INPUT holds JSON Lines, JSON, CSV (each also as .gz or .zst) or Parquet. Rows that cannot be held are counted by reason;
    bad rows go into OUT's neighbour .bad.jsonl with file, line and reason, and the rest goes on. All counts are printed and
    saved beside OUT as .counts.json, with the columns and keys of turns that were not read.

    Answers that a key of their row calls bad (label, kto_tag, reward, score, success ...: false, 0, -1) are left out. Where
    such a key holds something else, the command stops and asks for --good-from or --ignore. With --labels only
    answers that another file rates good are learned; what was said before them is context. --labelled keeps both kinds, as
    chats with the label good or bad of which only the judged answer is scored: bad ones are never imitated, and KTO needs both.

    Logs that hold no definitions of tools get those of --tools, else what their calls show, named in `inferred_tools`.

    Exit codes: 0 done, 2 wrong input or command line, too many bad rows, or no row left.

    \b
    Examples:
        python -m data convert glaive.json --out runs/glaive.jsonl
        python -m data convert rows.csv.gz --adapter my_columns.yaml --out runs/rows.jsonl
        python -m data convert traces.jsonl --labels scores.csv --on trace_id --good "value>=1" --out runs/good.jsonl
        python -m data convert HuggingFaceTB/smoltalk --subset all --revision main --out runs/smoltalk.jsonl
    """
    found = find_input(source, revision=revision, subset=subset, split=split)
    if labels is None and (on or good or bad):
        raise UserError("--on, --good and --bad say how the file of --labels FILE is read, which is missing")
    ratings = None if labels is None else read_ratings(labels, on=on, good=good, bad=bad)
    rules = replace(key_rules(ignore or (), good_from or (), redact=redact, ratings=ratings), labelled=labelled)
    shape = Shape(() if tools is None else read_tools(tools), split_long, tokenizer)
    counts = convert(
        found, out, adapter=adapter, workers=workers, max_bad=max_bad, licence=licence, rules=rules, shape=shape
    )
    if counts["rows"] != counts["read"]:
        print(f"{counts['rows']} rows gave {counts['read']} results")
    bad_rows = {"bad row": counts["bad"]} if counts["bad"] else {}
    shown = {**counts, "dropped": {**counts["dropped"], **bad_rows}}
    print_table(("source", "rows", "count"), count_rows(source, shown))
    print_keys(counts)
    if bad_answers := sum(count for reason, count in counts["dropped"].items() if reason.endswith(BAD)):
        print(f"{bad_answers} bad answers are left out; `--labelled` keeps them, labelled, for KTO")
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
                "gated" if a.terms.gated else "",
                _flags(a),
                ", ".join(a.columns),
            )
            for a in ADAPTERS.values()
        ]
        print_table(columns, rows)


def _licence_of(adapter: Adapter) -> str:
    if adapter.terms.licence is not None:
        return adapter.terms.licence
    return "none stated" if adapter.hub_id else "the file's own"


def _flags(adapter: Adapter) -> str:
    flags = (("non-commercial", adapter.terms.non_commercial), ("OpenAI-derived", adapter.terms.openai_derived))
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
            cells = (f"`{a.name}`", a.kind, dataset, licence, "yes" if a.terms.gated else "", columns, a.schema, a.note)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines).rstrip()


_CATALOGUE_HEAD = """# Dataset catalogue

Written by `python -m data adapters --markdown --out docs/dataset-catalogue.md` from the table in `data/formats/catalogue.py`.

*Known from* says how the columns are known: seen in **real rows**, read on **public pages** (a card or a well-known
loader), or **recalled** and not yet settled. No dataset was downloaded for this: where it says *public pages* or *recalled*,
the adapter has been tried only on rows that we wrote in that schema. Licences are what publishers state; they are no
advice. **Non-commercial** and **OpenAI-derived** sources, and those without a stated licence, are refused by
`--licence commercial`.
"""


def export_command(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="Chats, as `convert` and `build` write them.")],
    format: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}.")],
    out: Annotated[Path, typer.Option(help="File to write, one row a line.")],
    adapter: Annotated[str, typer.Option(help="Format of FILE; `adapters` lists them.")] = "chats",
    bare: Annotated[
        bool,
        typer.Option("--bare", help="Leave id, source, licence and group out of the rows, into a file beside them."),
    ] = False,
    ignore: Ignore = None,
    good_from: GoodFrom = None,
    redact: Redact = True,
) -> None:
    """Write chats as OpenAI fine-tuning rows, Hermes or ShareGPT conversations, ATIF, Glaive or ReAct.

    What is written reads back as the same chat. A chat that a format cannot hold (a text with the format's own tags, say) is
    left out; counts are printed and saved beside OUT as .counts.json. Trajectories go to ATIF whatever their outcome
    (`--adapter trajectory`).

    Every row carries its id, source, licence and group. --bare, for services that refuse unknown keys, writes them into OUT's
    neighbour .origins.jsonl, line by line, and leaves out rows whose licence forbids that or is not known.

    Keys that change what a row means are obeyed as `convert` obeys them; --ignore and --good-from mean the same here.

    \b
    Examples:
        python -m data export --format atif runs/glaive.jsonl --out runs/glaive.atif.jsonl
        python -m data export --format openai --adapter sharegpt --ignore score rows.jsonl --out runs/rows.jsonl
    """
    if format not in FORMATS:
        raise UserError(f"there is no format {format!r}.{nearest(format, FORMATS)} All of them: {', '.join(FORMATS)}")
    rules, keys = key_rules(ignore or (), good_from or (), redact=redact), KeyCounts()
    read, dropped = 0, Counter[str]()
    beside = out.with_suffix(".origins.jsonl")

    def lines(origins: IO[bytes] | None) -> Iterator[str]:
        nonlocal read
        found = _exported(source, adapter, format, bare=bare, rules=rules, keys=keys)
        for made in with_progress(found, f"exporting {source}"):
            read += 1
            if isinstance(made, Skip):
                dropped[made.reason] += 1
                continue
            row, origin = made
            if origins is not None:
                origins.write(json.dumps(origin, ensure_ascii=False).encode() + b"\n")
            yield json.dumps(row, ensure_ascii=False)

    with whole_result(out) as result:
        origins = result.open(beside) if bare else None
        kept = write_lines(result, out, lines(origins))
        if not kept:
            reasons = "".join(f"\n  {count} x {reason}" for reason, count in dropped.most_common())
            raise UserError(
                f"{source}: no chat of {read} can be written as {format}:{reasons or ' there was nothing to read'}"
            )
        if not bare:
            result.remove(beside)  # of an earlier run
        counts = {
            "format": format,
            "input": str(source),
            "read": read,
            "kept": kept,
            "dropped": dict(dropped),
            "not_read": dict(keys.unread.most_common()),
            "not_judged": dict(keys.not_judged.most_common()),
            "redacted": dict(keys.redacted.most_common()),
        }
        saved = save_counts(result, out, counts)
    print_table(("source", "rows", "count"), count_rows(str(source), counts))
    print_keys(counts)
    typer.echo(f"wrote {out}{f', {beside}' if bare else ''} and {saved}")


def _reasons(dropped: Counter[str]) -> str:
    return (
        "\n".join(f"  {count} x {reason}" for reason, count in dropped.most_common()) or "  there was nothing to read"
    )


def schema_command(
    out: Annotated[Path | None, typer.Option(help="File to write; without it the schema is printed.")] = None,
) -> None:
    """Write the JSON Schema of a trajectory record.

    \b
    Example:
        python -m data schema --out docs/trajectory.schema.json
    """
    text = json.dumps(trajectory_json_schema(), ensure_ascii=False, indent=2)
    if out is None:
        print(text)
    else:
        write_whole(out, text + "\n")
        print(f"wrote {out}")


def build_command(
    config: Annotated[Path, typer.Option(help="YAML file with sources, weights, seed and split.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the prepared set, before the one of the config.")] = None,
) -> None:
    """Mix sources into a prepared set for training: train.jsonl, validation.jsonl and manifest.json.

    A group (a task) never stands on both sides of the split. With `labelled: true` in the config it is a set of good and bad
    chats for KTO, from chats with labels, pairs (chosen is good, rejected is bad) and trajectories (by their outcome).

    \b
    Example:
        python -m data build --config configs/data/quickstart.yaml
    """
    manifest = build(read_config(config, BuildConfig), out=out, name=str(config))
    rows: list[tuple[str, str, int]] = []
    for source in manifest["sources"]:
        first, *others = [file["path"] for file in source["files"]] + [dataset["id"] for dataset in source["hub"]]
        rows += count_rows(f"{source['adapter']} {first}" + (f" and {len(others)} more" if others else ""), source)
    print_table(("source", "rows", "count"), rows)
    for source in manifest["sources"]:
        print_keys(source)
    for split, counts in manifest["splits"].items():
        labels = ", ".join(f"{count} {label}" for label, count in counts.get("labels", {}).items())
        print(f"{split}: {counts['rows']} rows{labels and f' ({labels})'} in {counts['groups']} groups")
    if not manifest["splits"]["validation"]["rows"] and manifest["config"]["validation_share"]:
        print("validation is empty, because all rows belong to one group")
    print(f"wrote {manifest['config']['out']}")


class LevelName(StrEnum):
    """What the sides of a pair are made of."""

    step = "step"
    trajectory = "trajectory"


def pairs_command(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Trajectory files (JSON Lines).")],
    out: Annotated[Path, typer.Option(help="File for the preference pairs, one a line.")],
    level: Annotated[
        LevelName, typer.Option(help="Sides of one turn each, or of all that follows the first divergence.")
    ] = LevelName.step,
    first: Annotated[int | None, typer.Option(min=1, help="Keep only the first N pairs of each record.")] = None,
    kinds: Annotated[
        str | None,
        typer.Option(help=f"Pairs by what is wrong, some of {','.join(KINDS)}; with shares: stuck=0.6,stop=0.4."),
    ] = None,
) -> None:
    """Extract preference pairs: one history, then what failed against what should have been done.

    By steps, chosen is the expert's advice at a failed step (`python -m benchmark run --advise`) or the model's own direct
    repair; and the first other turn of a successful record of the same task. By trajectories, chosen is all that a successful
    record did from the first divergence on, and rejected all that the failed one did. Sides that call the same tools with
    the same arguments give no pair. Counts are printed and saved beside OUT as .counts.json.

    With --kinds the files are tries and how they are gone on with (`python -m benchmark complete`, `run --prove`): a failed
    call made again (stuck), an end at the wrong place (stop), the first step from which success is lost (pit), an instruction
    in a result that is obeyed (injection), each against a way on to success; and whole failed tries against successes (try).

    \b
    Examples:
        python -m data pairs runs/quickstart/round-1/practice/sft/trajectories.jsonl --out runs/pairs.jsonl
        python -m data pairs practice.jsonl completed.jsonl --kinds stuck,stop --out runs/pairs.jsonl
    """
    if kinds is not None:
        if level is not LevelName.step or first is not None:
            raise UserError("--kinds says itself what sides are made of: leave out --level and --first")
        _pairs_by_kind(files, out, read_kinds(kinds))
        return
    records, without, steps, dropped = 0, 0, 0, Counter[str]()

    def lines() -> Iterator[str]:
        nonlocal records, without, steps
        read = (record for path in files for record in with_progress(read_trajectories(path), f"reading {path}"))
        kind: Literal["step", "trajectory"] = "step" if level is LevelName.step else "trajectory"
        for _, found in pairs_by_record(read, level=kind):
            records += 1
            results = _first_pairs(found, first)
            without += not results
            steps += len(results)
            for result in results:
                if isinstance(result, Skip):
                    dropped[result.reason] += 1
                else:
                    yield result.model_dump_json()

    nothing = "failed step" if level is LevelName.step else "failure"
    with whole_result(out) as result:
        kept = write_lines(result, out, lines())
        counts = {
            "inputs": [str(path) for path in files],
            "level": level.value,
            "records": records,
            f"records_without_{nothing.replace(' ', '_')}": without,
            "read": steps,
            "kept": kept,
            "dropped": dict(dropped),
        }
        saved = save_counts(result, out, counts)
        if not kept:
            result.remove(out)  # of other records: the counts beside it would not be its own
    if not kept:
        raise UserError(
            f"no pair in {records} records, of which {without} have no {nothing}; failures were left out for:\n"
            f"{_reasons(dropped)}"
        )
    print(f"{records} records, {without} of them without a {nothing}")
    what = "failed or advised steps" if level is LevelName.step else "failed records"
    print_table(("source", "steps" if level is LevelName.step else "records", "count"), count_rows(what, counts))
    print(f"wrote {out} and {saved}")


def _pairs_by_kind(files: list[Path], out: Path, shares: dict[str, float | None]) -> None:
    records = [record for path in files for record in with_progress(read_trajectories(path), f"reading {path}")]
    found = records_to_kinds(records, list(shares))
    pairs = with_shares(found.pairs, shares)
    for kind, of_kind in pairs.items():
        if beyond := len(found.pairs[kind]) - len(of_kind):
            found.dropped[f"{kind}: beyond its share"] += beyond
    kept = sum(map(len, pairs.values()))
    counts = {
        "inputs": [str(path) for path in files],
        "records": len(records),
        "read": kept + found.dropped.total(),
        "kept": kept,
        "dropped": dict(found.dropped),
        "kinds": kinds_to_counts(pairs),
    }
    with whole_result(out) as result:
        write_lines(result, out, (pair.model_dump_json() for of_kind in pairs.values() for pair in of_kind))
        saved = save_counts(result, out, counts)
        if not kept:
            result.remove(out)  # of other records: the counts beside it would not be its own
    if not kept:
        raise UserError(f"no pair of {', '.join(shares)} in {len(records)} records:\n{_reasons(found.dropped)}")
    print_table(("source", "results", "count"), count_rows("tries", counts))
    rows = [(kind, *told.values()) for kind, told in kinds_to_counts(pairs).items()]
    print_table(("kind", "pairs", "share", "chosen characters", "rejected characters"), rows)
    print(f"wrote {out} and {saved}")


def _first_pairs(results: Iterable[PreferencePair | Skip], first: int | None) -> list[PreferencePair | Skip]:
    """All results, with the pairs after the `first` ones as Skips: a model that is stuck fails the same way again."""
    kept: list[PreferencePair | Skip] = []
    pairs_left = first
    for result in results:
        if pairs_left is not None and isinstance(result, PreferencePair):
            result = result if pairs_left else Skip(f"after the first {first} pairs of its record")
            pairs_left = max(0, pairs_left - 1)
        kept.append(result)
    return kept
