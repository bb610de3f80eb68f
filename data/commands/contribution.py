"""`python -m data validate`, `redact`, `score` and `plan`: what contributors and their readers run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from core.config import read_config
from core.errors import UserError
from core.files import whole_result, write_whole
from core.json_lines import bounded_lines, json_line_to_object
from core.screen import print_table, save_counts, with_progress
from data.contribution.codes import codes, explain_all, explain_code
from data.contribution.coverage import (
    Coverage,
    CoverageRow,
    PlanSpec,
    files_to_coverage,
    need_to_cells,
    plan_to_rows,
    rows_to_figure,
)
from data.contribution.patterns import Patterns, SearchTookTooLong, our_patterns, read_patterns
from data.contribution.quality import (
    POINTS,
    _score_lines,
    check_picture_name,
    figure_to_bytes,
    mean,
    quantile,
    read_replays,
    scores_to_figure,
)
from data.contribution.redaction import (
    Finder,
    Finding,
    describe_findings,
    detect_secrets_finder,
    redact_text,
    redact_value,
)
from data.contribution.validate import CheckedLine, Checker, LineLimits, files_to_check, path_to_text
from data.records import Category


def _quarantine_row(line: CheckedLine) -> dict[str, Any]:
    first, *others = [problem for problem in line.problems if problem.code.startswith("E")]
    text = line.raw.decode("utf-8", errors="backslashreplace").replace("\0", "")
    return {
        "path": line.path,
        "line": line.line,
        "byte_offset": line.byte_offset,
        "bytes": line.size_bytes,
        "code": first.code,
        "reason": first.message,
        "also": [{"code": problem.code, "reason": problem.message} for problem in others],
        "text": redact_text(text)[:200] if first.code == "E107" else redact_text(text),
    }


def _json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


@dataclass
class _Report:
    """What goes to standard output while the files are read: lines for people, or one JSON object for machines."""

    as_json: bool
    codes: Counter[str] = field(default_factory=Counter)
    files: list[dict[str, Any]] = field(default_factory=list)
    _of_file: Counter[str] = field(default_factory=Counter)
    _unprinted: Counter[str] = field(default_factory=Counter)

    def start(self) -> None:
        if self.as_json:
            typer.echo('{"problems": [', nl=False)

    def start_file(self, path: str) -> None:
        self.files.append({"path": path, "good": 0, "bad": 0, "blank": 0})
        self._of_file.clear()
        self._unprinted.clear()

    def add(self, line: CheckedLine) -> None:
        counts = self.files[-1]
        counts["bad" if line.is_bad else "blank" if line.record is None else "good"] += 1
        for problem in line.problems:
            self.codes[problem.code] += 1
            if self.as_json:
                separator = ", " if self.codes.total() > 1 else ""
                typer.echo(separator + _json_text(problem.__dict__ | {"name": codes()[problem.code].name}), nl=False)
                continue
            # A Windows file has one problem on each line; the report stays readable, --json and --quarantine hold all.
            self._of_file[problem.code] += 1
            if self._of_file[problem.code] <= (100 if problem.code.startswith("E") else 3):
                typer.echo(str(problem))
            else:
                self._unprinted[problem.code] += 1

    def end_file(self) -> None:
        for code, count in sorted(self._unprinted.items()):
            typer.echo(f"{self.files[-1]['path']}: {count:,} more {code} {codes()[code].name}")

    def count(self, kind: str) -> int:
        return sum(file[kind] for file in self.files)

    def end(self, where: list[str]) -> None:
        if self.as_json:
            totals = {"good": self.count("good"), "bad": self.count("bad"), "blank": self.count("blank")}
            rest = {**totals, "codes": dict(sorted(self.codes.items())), "files": self.files}
            typer.echo("], " + _json_text(rest)[1:])
            return
        if self.codes:
            typer.echo()
            rows = [(count, code, codes()[code].name) for code, count in sorted(self.codes.items())]
            print_table(("count", "code", "name"), rows)
            typer.echo("\n`python -m data validate --explain CODE` says what a code means and how to mend it.")
        blank = f", {self.count('blank')} blank lines" if self.count("blank") else ""
        typer.echo(f"{self.count('good')} good records, {self.count('bad')} bad lines{blank}")
        for line in where:
            typer.echo(line)


def validate_command(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE...", help="Trajectory files (JSON Lines), or folders of them.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the good lines here, byte for byte.")] = None,
    quarantine: Annotated[
        Path | None,
        typer.Option(help="Write each bad line here with place, code and reason. With --out: OUT.quarantine.jsonl."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
    explain: Annotated[
        str | None, typer.Option(metavar="CODE", help="Say what a code means, or all of them, and end.")
    ] = None,
    max_line_bytes: Annotated[int, typer.Option(min=1, help="Longest line.")] = LineLimits.line_bytes,
    max_depth: Annotated[int, typer.Option(min=1, help="Deepest nesting of a value.")] = LineLimits.depth,
    max_records: Annotated[int, typer.Option(min=1, help="Most lines of a file.")] = LineLimits.records,
    max_actions: Annotated[int, typer.Option(min=1, help="Most actions of a record.")] = LineLimits.actions,
) -> None:
    """Check trajectory files line by line; each problem is named as path:line:byte-offset: CODE message.

    E codes are errors, W codes are advice. Exit codes: 0 no errors, 1 there are bad lines, 2 a file is missing.

    \b
    Example:
        python -m data validate mine.jsonl --out good.jsonl --quarantine bad.jsonl
        python -m data validate --explain E305
    """
    if explain is not None:
        typer.echo(explain_all() if explain == "all" else explain_code(explain), nl=False)
        return
    if not files:
        raise UserError("nothing to check: name a file or a folder, or give --explain CODE")
    inputs = files_to_check(files)
    if out is not None and quarantine is None:
        quarantine = out.with_suffix(".quarantine.jsonl")
    for target in (out, quarantine):
        if target is not None and any(target.resolve() == path.resolve() for path in inputs):
            raise UserError(f"{target} is one of the inputs and would be overwritten")
    if out is not None and quarantine is not None and out.resolve() == quarantine.resolve():
        raise UserError(f"--out and --quarantine are the same file, {out}")
    checker = Checker(LineLimits(max_line_bytes, max_depth, max_records, max_actions))
    report = _Report(as_json)
    try:
        first = out or quarantine
        with whole_result(first) if first else nullcontext() as result:
            good: IO[bytes] | None = result.open(out) if result and out else None
            bad: IO[bytes] | None = result.open(quarantine) if result and quarantine else None
            report.start()
            for path in inputs:
                report.start_file(path_to_text(path))
                for line in with_progress(checker.check_file(path), f"checking {path_to_text(path)}"):
                    report.add(line)
                    if line.record is not None and good is not None:
                        good.write(line.raw + b"\n")
                    elif line.is_bad and bad is not None:
                        bad.write(_json_text(_quarantine_row(line)).encode() + b"\n")
                report.end_file()
    finally:
        checker.close()
    report.end([f"wrote {target}" for target in (out, quarantine) if target is not None])
    if report.count("bad"):
        raise typer.Exit(1)


_NAMES = ("id", "group", "trunk")


def _keep_names_apart(row: Any, redacted: Any, names: dict[str, str]) -> None:
    """Give redacted names of records and groups a number in `names`, so that two people do not become one record."""
    for before, after in ((row, redacted), (row.get("metadata"), redacted.get("metadata"))):
        if isinstance(before, dict):
            for key in _NAMES:
                if key in before and before[key] != after[key]:
                    after[key] = names.setdefault(str(before[key]), f"redacted-{len(names) + 1}")


def _redacted_lines(
    path: Path, patterns: Patterns, more: Finder | None, names: dict[str, str]
) -> Iterator[tuple[int, bytes, list[Finding]]]:
    """(line number, line, findings); a line without findings is passed on byte for byte."""
    with open(path, "rb") as file:
        for number, raw in enumerate(bounded_lines(path, file), start=1):
            if not raw.strip():
                continue
            try:
                row = json_line_to_object(raw)
                redacted, found = redact_value(row, patterns=patterns, more=more)
            except RecursionError:
                raise UserError(f"{path}:{number}: nested too deeply; `python -m data validate` says more") from None
            except ValueError as error:
                raise UserError(f"{path}:{number}: {error}; `python -m data validate` says more") from None
            except SearchTookTooLong as error:
                raise UserError(f"{path}:{number}: {error}, so nobody can say that the line is clean") from None
            if found:
                if isinstance(row, dict):
                    _keep_names_apart(row, redacted, names)
                raw = json.dumps(redacted, ensure_ascii=False, separators=(",", ":")).encode()
            yield number, raw.rstrip(b"\r\n") + b"\n", found


def redact_command(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Records, chats or pairs (JSON Lines).")],
    out: Annotated[Path | None, typer.Option(help="File for the rows of all FILEs, with placeholders.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only name the lines; exit 1 if there are any.")] = False,
    patterns: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Patterns of your own, a YAML file as data/contribution/patterns.yaml."),
    ] = None,
    ip_addresses: Annotated[bool, typer.Option("--ip-addresses", help="Replace IP addresses too.")] = False,
    detect_secrets: Annotated[
        bool, typer.Option("--detect-secrets", help="Search with the package detect-secrets too.")
    ] = False,
) -> None:
    """Replace secrets and personal data with placeholders such as <EMAIL_1>, the same one for the same value of a record.

    Rows without findings are written byte for byte. Counts are printed and saved beside OUT as .counts.json; what was
    found is never printed. UNREAD counts texts that are nested more than 8 layers deep, or are escaped and longer than
    1 MiB: nobody can say what they hold, so all of such a text is replaced. Exit codes: 0 done or nothing found,
    1 --check found something, 2 wrong input.

    \b
    Example:
        python -m data redact mine.jsonl --out mine.redacted.jsonl
        python -m data redact --check mine.jsonl
    """
    if check == (out is not None):
        raise UserError("give either --out FILE, to write redacted rows, or --check, to look only")
    if out is not None and any(path.exists() and out.exists() and path.samefile(out) for path in files):
        raise UserError(f"--out {out} is one of the inputs; the rows as they are would be lost")
    all_patterns = our_patterns(ip_addresses=ip_addresses)
    if patterns is not None:
        all_patterns += read_patterns(patterns)
    more = detect_secrets_finder() if detect_secrets else None
    rows, changed, kinds, names = 0, 0, Counter[str](), dict[str, str]()
    with whole_result(out) if out is not None else nullcontext() as result:
        target = None if result is None or out is None else result.open(out)
        for path in files:
            for number, line, found in with_progress(
                _redacted_lines(path, all_patterns, more, names), f"redacting {path}"
            ):
                rows += 1
                changed += bool(found)
                kinds.update(finding.kind for finding in found)
                if check and found:
                    typer.echo(f"{path}:{number}: {describe_findings(found)}")
                if target is not None:
                    target.write(line)
        if not rows:
            raise UserError(f"{', '.join(map(str, files))}: holds no row")
        if result is not None and out is not None:
            counts = {
                "inputs": [str(path) for path in files],
                "rows": rows,
                "rows_changed": changed,
                "found": dict(kinds),
            }
            saved = save_counts(result, out, counts)
    if kinds:
        print_table(("kind", "found"), kinds.most_common())
    typer.echo(f"{rows} rows, {changed} of them with findings")
    if out is not None:
        typer.echo(f"wrote {out} and {saved}")
    elif kinds:
        raise typer.Exit(1)


def score_command(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Trajectory files, or folders of them.")],
    out: Annotated[Path, typer.Option(help="File for one row a record: score, parts, what is missing.")],
    replay: Annotated[
        Path | None, typer.Option(help="Report of `python -m benchmark replay --out`; without it 85 points are scaled.")
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Histograms by category. Default: OUT with .png.")] = None,
    fail_under: Annotated[
        float | None, typer.Option(min=0, max=100, help="Exit 1 if a record scores less than this.")
    ] = None,
) -> None:
    """Score records from 0 to 100 by completeness, labels, reproducibility, steps and informativeness.

    docs/quality.md gives the formula. Bad lines score 0. Exit codes: 0 done, 1 a score is below --fail-under, 2 wrong
    input.

    \b
    Example:
        python -m data score mine.jsonl --out scores.jsonl
    """
    inputs = files_to_check(files)
    if any(out.resolve() == path.resolve() for path in [*inputs, *([replay] if replay else [])]):
        raise UserError(f"--out {out} is one of the inputs and would be overwritten")
    picture = picture or out.with_suffix(".png")
    check_picture_name(picture)
    replays = None if replay is None else read_replays(replay)
    scores: dict[str, Counter[float]] = {}
    parts: dict[str, Counter[str]] = {}
    missing: Counter[str] = Counter()
    with whole_result(out) as result:
        target = result.open(out)
        for row in _score_lines(inputs, replays):
            target.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            name = str(row["category"] or "bad lines")
            scores.setdefault(name, Counter())[row["score"]] += 1
            parts.setdefault(name, Counter()).update(row["parts"] or {})
            missing.update(row.get("missing", ()))
        if not scores:
            raise UserError(f"{', '.join(map(str, files))}: holds no record")
        order = [*Category, "bad lines"]
        scores = dict(sorted(scores.items(), key=lambda item: order.index(item[0])))
        result.write(picture, figure_to_bytes(scores_to_figure(scores), picture))
    used = [name for name in POINTS if any(name in counted for counted in parts.values())]
    rows = [
        (
            name,
            counted.total(),
            f"{mean(counted):.1f}",
            *(f"{quantile(counted, share):.1f}" for share in (0.1, 0.5, 0.9)),
            *(f"{parts[name][part] / counted.total():.1f}" for part in used),
        )
        for name, counted in scores.items()
    ]
    columns = ("category", "records", "mean", "p10", "median", "p90", *(f"{part} /{POINTS[part]:g}" for part in used))
    print_table(columns, rows)
    if missing:
        typer.echo("most often missing: " + ", ".join(f"{name} ({count})" for name, count in missing.most_common(5)))
    typer.echo(f"wrote {out} and {picture}")
    low = sum(count for counted in scores.values() for score, count in counted.items() if score < (fail_under or 0))
    if low:
        typer.echo(f"{low} records score below {fail_under:g}")
        raise typer.Exit(1)


def plan_command(
    spec_file: Annotated[Path, typer.Argument(metavar="SPEC", help="YAML specification of what is needed.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Training records, or folders of them.")],
    test: Annotated[list[Path] | None, typer.Option(help="Test records; may be repeated.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Write the table as a picture (.png, .svg, .pdf).")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the table as JSON.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Exit 1 if anything is missing.")] = False,
) -> None:
    """Show which kinds of data a specification asks for, which are covered, and how many records are missing.

    Exit codes: 0 done, 1 something is missing (with --check), 2 wrong input.

    \b
    Example:
        python -m data plan configs/data/support-desk.plan.yaml mine.jsonl --picture plan.png
    """
    if picture is not None:
        check_picture_name(picture)
    spec = read_config(spec_file, PlanSpec)
    wanted = {cell for need in spec.needs for cell in need_to_cells(need)}
    training = files_to_coverage(files_to_check(files), wanted)
    testing = files_to_coverage(files_to_check(test), wanted) if test else Coverage(Counter(), Counter(), set())
    if not training.read:
        raise UserError(f"{', '.join(map(str, files))}: holds no record")
    rows = plan_to_rows(spec, training, testing)
    shared = sorted(training.groups & testing.groups)
    print_table(
        (
            "category",
            "tier",
            "language",
            "outcome",
            "need",
            "have",
            "missing",
            "test need",
            "test have",
            "test missing",
        ),
        [(*row.cell, row.need, row.have, row.missing, row.test_need, row.test_have, row.test_missing) for row in rows],
        title=spec.service,
    )
    for name, coverage in (("training", training), ("test", testing)):
        for reason, count in coverage.left_out.most_common():
            typer.echo(f"{name}: {count} records left out: {reason}")
    covered, missing = sum(not row.missing for row in rows), sum(row.missing for row in rows)
    test_missing = sum(row.test_missing for row in rows)
    typer.echo(
        f"{covered} of {len(rows)} cells are covered; {missing} training and {test_missing} test records are missing"
    )
    typer.echo(
        f"{training.read} training records read, {training.cells.total()} counted; {testing.read} test records read"
    )
    typer.echo(f"success is decided by {spec.labelling.by}: {spec.labelling.success}")
    if shared:
        typer.echo(
            f"{len(shared)} groups stand in training and in test, which measures memory: {', '.join(shared[:3])}"
        )
    if out is not None:
        result = _result(spec, rows, training, testing, shared)
        write_whole(out, json.dumps(result, ensure_ascii=False, indent=2) + "\n")
        typer.echo(f"wrote {out}")
    if picture is not None:
        write_whole(picture, figure_to_bytes(rows_to_figure(rows), picture))
        typer.echo(f"wrote {picture}")
    if check and (missing or test_missing or shared):
        raise typer.Exit(1)


def _result(
    spec: PlanSpec, rows: list[CoverageRow], training: Coverage, testing: Coverage, shared: list[str]
) -> dict[str, Any]:
    return {
        "service": spec.service,
        "labelling": spec.labelling.model_dump(),
        "test_set": spec.test_set.model_dump(),
        "cells": [
            {
                **row.cell._asdict(),
                "why": row.why,
                "need": row.need,
                "have": row.have,
                "missing": row.missing,
                "test_need": row.test_need,
                "test_have": row.test_have,
                "test_missing": row.test_missing,
            }
            for row in rows
        ],
        "left_out": {"training": dict(training.left_out), "test": dict(testing.left_out)},
        "groups_in_both": shared,
    }
