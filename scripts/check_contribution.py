"""Check contributed trajectory files as .github/workflows/contribution.yml does, and print one table.

    python scripts/check_contribution.py mine.jsonl
    python scripts/check_contribution.py --changed origin/main HEAD --out report.md

It runs `python -m data validate`, `redact --check` and `score`, and `python -m benchmark replay` for records of its worlds
(with --replay). A file passes when no line is bad, nothing is left to redact, each record states its licence, and no record
scores below --fail-under. With --changed, the files are those under contributions/ that HEAD adds or changes since it left
BASE. They are read from git and nothing of HEAD is checked out or run; ids must be new among all files of BASE too.

It needs only: pydantic, typer, rich, pyyaml, packaging, semver, matplotlib; for --replay httpx and numpy too.
Exit codes: 0 all files pass, 1 a file fails, 2 the command line or a file name is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = "contributions"
LISTED_PROBLEMS = 20


@dataclass
class FileVerdict:
    """One row of the table. `fails` holds the reasons why the file does not pass."""

    path: str
    good: int = 0
    bad: int = 0
    codes: dict[str, int] = field(default_factory=dict)
    to_redact: int = 0
    lowest: float | None = None
    mean: float | None = None
    replayed: str = "not run"
    problems: list[str] = field(default_factory=list)
    fails: list[str] = field(default_factory=list)


def run_module(module: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """`python -m MODULE` of this repository, in a folder whose files can shadow nothing (-P)."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-m", module, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def git(*arguments: str) -> bytes:
    """Output of git in the working directory; ends with its message where git fails."""
    done = subprocess.run(["git", *arguments], capture_output=True, check=False)
    if done.returncode:
        stop(f"git {arguments[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def stop(message: str) -> None:
    """End with a message and exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def names_at(revision: str) -> list[str]:
    """Names of the data files of a revision; links and submodules are no files."""
    lines = (
        git("ls-tree", "-r", "-z", "--full-tree", revision, "--", FOLDER).decode(errors="surrogateescape").split("\0")
    )
    entries = [line.split("\t", 1) for line in lines if line]
    return [name for kind, name in entries if kind.startswith("100") and name.endswith(".jsonl")]


def copy_from_git(revision: str, names: list[str], folder: Path) -> None:
    """Write files of a revision below `folder`, under their names."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(git("show", f"{revision}:{name}"))


def changed_files(base: str, head: str) -> tuple[list[str], list[str]]:
    """Names below contributions/ that HEAD adds or changes since it left BASE, and those that it removes."""
    changes: dict[str, list[str]] = {}
    for kinds in ("AMT", "D"):
        options = ("--no-renames", "--name-only", "-z", f"--diff-filter={kinds}", f"{base}...{head}", "--", FOLDER)
        changes[kinds] = [name for name in git("diff", *options).decode(errors="surrogateescape").split("\0") if name]
    return changes["AMT"], changes["D"]


def check(
    names: list[str], known: list[str], folder: Path, work: Path, *, replay: bool, fail_under: float
) -> list[FileVerdict]:
    """Check files of `folder`, with `work` for what the commands write.

    The `known` files are read first, so that an id which they hold is a duplicate in the others.
    """
    if not names:
        return []
    results = {name: FileVerdict(name) for name in names}
    done = run_module("data", "validate", "--json", "--", *known, *names, folder=folder)
    if done.returncode == 2:
        stop(done.stderr.strip().removeprefix("error: "))
    report = json.loads(done.stdout)
    for counts in report["files"]:
        if result := results.get(counts["path"]):
            result.good, result.bad = counts["good"], counts["bad"]
    for problem in report["problems"]:
        if result := results.get(problem["path"]):
            code = problem["code"]
            result.codes[code] = result.codes.get(code, 0) + 1
            if code.startswith("E") or code in ("W603", "W607"):
                place = f"{problem['path']}:{problem['line']}:{problem['byte_offset']}"
                result.problems.append(f"{place}: {code} {problem['message']}")
    # Where the good lines of a file are, under a name that no contributor chose.
    copies = {f"{number}.jsonl": result for number, result in enumerate(results.values()) if result.good}
    for name, result in copies.items():
        bad_lines = {p["line"] for p in report["problems"] if p["path"] == result.path and p["code"].startswith("E")}
        copy_good_lines(folder / result.path, work / name, bad_lines)
    if copies:
        count_findings(copies, work)
        options = replay_ours(copies, work) if replay else []
        score(copies, work, options)
    for result in results.values():
        judge(result, fail_under)
    return list(results.values())


def copy_good_lines(source: Path, target: Path, bad_lines: set[int]) -> None:
    """What `python -m data validate` found to be records."""
    with open(source, "rb") as lines, open(target, "wb") as good:
        for number, line in enumerate(lines, start=1):
            if number not in bad_lines and line.strip():
                good.write(line.removesuffix(b"\n") + b"\n")


def count_findings(copies: dict[str, FileVerdict], work: Path) -> None:
    """How many records of each file hold secrets or personal data."""
    done = run_module("data", "redact", "--check", "--", *copies, folder=work)
    for line in done.stdout.splitlines():
        if result := copies.get(line.partition(":")[0]):
            result.to_redact += 1


def replay_ours(copies: dict[str, FileVerdict], work: Path) -> list[str]:
    """Run the records of our own worlds again; returns the options with which `data score` reads the report."""
    is_available = run_module("benchmark", "replay", "--help", folder=work).returncode == 0
    replays: list[dict[str, Any]] = []
    for name, result in copies.items():
        # Other records name no task of ours, and nobody here can build their world.
        rows = [row for row in read_rows(work / name) if isinstance(row.get("metadata", {}).get("task"), dict)]
        if not rows or not is_available:
            result.replayed = "not available" if rows else "not ours"
            continue
        ours, report = work / f"ours-{name}", work / f"replay-{name}"
        ours.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        done = run_module("benchmark", "replay", "--out", str(report), "--", str(ours), folder=work)
        if not report.exists():
            result.replayed = "failed"
            result.problems.append(f"replay: {done.stderr.strip()[-300:]}")
            continue
        found = read_rows(report)
        replays += found
        result.replayed = f"{sum(row['ok'] for row in found)} of {len(rows)}"
        result.problems += [
            f"{row['id']}: replay differs: {json.dumps(row.get('first_difference'), ensure_ascii=False)}"
            for row in found
            if not row["ok"]
        ]
    # The score counts reproducibility for all records or for none.
    if len(replays) < sum(result.good for result in copies.values()):
        return []
    (work / "replays").write_text("".join(json.dumps(row) + "\n" for row in replays), encoding="utf-8")
    return ["--replay", "replays"]


def score(copies: dict[str, FileVerdict], work: Path, options: list[str]) -> None:
    """Mean and lowest score of each file; labels are compared across files."""
    done = run_module(
        "data", "score", "--out", "scores", "--picture", "scores.png", *options, "--", *copies, folder=work
    )
    if done.returncode:
        stop(f"data score: {done.stderr.strip()}")
    points: dict[str, list[float]] = {}
    for row in read_rows(work / "scores"):
        points.setdefault(row["path"], []).append(row["score"])
    for name, result in copies.items():
        result.lowest, result.mean = min(points[name]), sum(points[name]) / len(points[name])


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON Lines file that one of our own commands wrote."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def judge(result: FileVerdict, fail_under: float) -> None:
    """Say why a file does not pass."""
    if result.bad:
        result.fails.append(f"{result.bad} bad lines")
    elif not result.good:
        result.fails.append("no record")
    if result.to_redact:
        result.fails.append(f"{result.to_redact} records to redact")
    if unlicensed := result.codes.get("W607"):
        result.fails.append(f"{unlicensed} records without a licence")
    if result.lowest is not None and result.lowest < fail_under:
        result.fails.append(f"lowest score {result.lowest:.1f} is below {fail_under:g}")
    if result.replayed == "failed":
        result.fails.append("replay failed")
    elif " of " in result.replayed and len(set(result.replayed.split(" of "))) > 1:
        result.fails.append("some records do not replay")


def cell(text: object) -> str:
    """Text that cannot leave its cell, link, or call a person: names and messages come from whoever contributes."""
    plain = str(text).encode(errors="replace").decode()
    return "".join(character for character in plain if character.isprintable()).replace("|", "\\|").replace("`", "'")


def to_markdown(results: list[FileVerdict], removed: list[str]) -> str:
    """The table, and under it the first problems of each file that fails."""
    lines = [
        "| file | good | bad | codes | to redact | mean score | lowest | replayed | result |",
        "|---|--:|--:|---|--:|--:|--:|---|---|",
    ]
    for result in results:
        codes = ", ".join(f"{count} {code}" for code, count in sorted(result.codes.items())) or "none"
        mean, lowest = ("-" if value is None else f"{value:.1f}" for value in (result.mean, result.lowest))
        verdict = "passes" if not result.fails else "**fails**: " + "; ".join(result.fails)
        cells = (f"`{cell(result.path)}`", result.good, result.bad, codes, result.to_redact, mean, lowest)
        lines.append(f"| {' | '.join(map(str, cells))} | {cell(result.replayed)} | {verdict} |")
    lines += [f"| `{cell(name)}` | | | | | | | | **fails**: removed; a maintainer removes data |" for name in removed]
    for result in results:
        if result.fails and result.problems:
            more = len(result.problems) - LISTED_PROBLEMS
            shown = [cell(problem)[:300] for problem in result.problems[:LISTED_PROBLEMS]]
            shown += [f"... and {more} more"] if more > 0 else []
            lines += ["", f"`{cell(result.path)}`", "", "```text", *shown, "```"]
    lines += [
        "",
        "`python -m data validate --explain CODE` says what a code means and how to mend it. The same check on your machine: "
        "`python scripts/check_contribution.py FILE`. The guide: docs/contributing-data.md, docs/contributing-data.ko.md.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE", help="files to check")
    parser.add_argument("--changed", nargs=2, metavar=("BASE", "HEAD"), help="check what HEAD changes, read from git")
    parser.add_argument("--out", type=Path, help="write the table here too (Markdown)")
    parser.add_argument("--replay", action="store_true", help="run the records of our own worlds again")
    parser.add_argument("--fail-under", type=float, default=50.0, help="lowest score that passes (default 50)")
    options = parser.parse_args()
    if bool(options.files) == bool(options.changed):
        parser.error("give either files or --changed BASE HEAD")
    removed: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        copies, work = Path(temporary) / "copies", Path(temporary) / "work"
        copies.mkdir()
        work.mkdir()
        if options.changed:
            base, head = options.changed
            changed, removed = changed_files(base, head)
            at_head = set(names_at(head))
            names = [name for name in changed if name in at_head]
            known = [name for name in names_at(base) if name not in {*names, *removed}]
            copy_from_git(head, names, copies)
            copy_from_git(base, known, copies)
            results = check(names, known, copies, work, replay=options.replay, fail_under=options.fail_under)
            # What is no data file cannot be checked, so it cannot pass.
            others = [name for name in changed if name not in at_head and not name.endswith(".md")]
            results += [FileVerdict(name, fails=["not a regular .jsonl file"]) for name in others]
        else:
            names = [str(Path(name)) for name in options.files]
            results = check(names, [], Path.cwd(), work, replay=options.replay, fail_under=options.fail_under)
    if not results and not removed:
        print(f"nothing below {FOLDER}/ is added or changed")
        return
    text = to_markdown(results, removed)
    print(text, end="")
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    if removed or any(result.fails for result in results):
        sys.exit(1)


if __name__ == "__main__":
    main()
