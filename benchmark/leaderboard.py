"""Runs -> one static page with a page of transcripts per run, one JSON file, and the table of the terminal.

The pages need no server, no network and no build step. Everything that came from a record, a model or a file goes through
`html.escape`; a content security policy stands behind that, so a planted script would not run either.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, JsonValue, ValidationError
from rich.table import Table
from rich.text import Text

from benchmark.kpis import UNITS, Comparison, Kpi, compare_success, task_of
from data.errors import UserError
from data.records import (
    Action,
    Advice,
    Outcome,
    Trajectory,
    describe_validation_error,
    json_to_object,
    read_trajectories,
)
from data.trajectories import output_to_text

TRANSCRIPTS = 40
SHOWN_CHARACTERS = 4_000
HALF_UP = 1e-9
"""Added before rounding, so that 37.5 % and 62.5 % become 38 and 63; Python would round to the even 38 and 62."""
NOTHING = Kpi(None, None, None, 0)

TITLES = {
    "success_rate": ("Task success", "Share of tasks whose goals all hold in the final state of the world."),
    "call_success_rate": ("Call success", "Share of calls without an error. An unreadable turn counts as an error."),
    "recovery_rate": ("Recovery", "Share of runs of errors that a later call of the same tool repaired."),
    "recovery_steps": ("Steps to repair", "Calls from an error to its repair; fewer is better."),
    "recovery_seconds": ("Seconds to repair", "The same in seconds of the world's own clock; fewer is better."),
    "retention_tokens": ("Context retention", "Tokens between a fact and its last correct use; unused facts count 0."),
}


class Run(BaseModel):
    """What `kpis.json` of a run folder says, as far as it is shown."""

    label: str
    model: str
    model_hash: str | None = None
    split: str
    count: int
    seed: int
    kpis: dict[str, Kpi]
    by_world: dict[str, dict[str, Kpi]] = {}
    wall_seconds: float
    command: str | list[str] = ""
    versions: dict[str, str] = {}
    trained_on: JsonValue = None


@dataclass(frozen=True)
class Row:
    """A run with its records, the name of its page, and how it compares with the run before."""

    run: Run
    records: list[Trajectory]
    page: str
    change: Comparison | None
    """None for the first run, and where records do not say which task they are of."""


def write_leaderboard(runs: Sequence[Path], out: Path) -> None:
    """Write `out/index.html`, `out/leaderboard.json` and one page of transcripts per run, in the order given.

    Args:
        runs: folders with `kpis.json` and `trajectories.jsonl`.

    Raises:
        UserError: if a folder is no run, a file is damaged, or two runs have the same label.
    """
    rows = _read_rows(runs)
    out.mkdir(parents=True, exist_ok=True)
    (out / "index.html").write_text(_index_page(rows), encoding="utf-8")
    for row in rows:
        (out / row.page).write_text(_run_page(row), encoding="utf-8")
    text = json.dumps({"runs": [_row_to_json(row) for row in rows]}, indent=2, ensure_ascii=False)
    (out / "leaderboard.json").write_text(text + "\n", encoding="utf-8")


def kpi_table(runs: Sequence[Path]) -> Table:
    """The KPIs of run folders for a terminal: a row per KPI, a column per run, cells such as `62 % (47-75)`.

    Raises:
        UserError: as `write_leaderboard`.
    """
    read = [read_run(folder) for folder in runs]
    table = Table("")
    for run in read:
        table.add_column(Text(run.label))  # as Text, because a label may hold rich's markup
    for name in UNITS:
        table.add_row(TITLES[name][0], *(kpi_to_text(name, run.kpis.get(name, NOTHING)) for run in read))
    return table


def kpi_to_text(name: str, kpi: Kpi) -> str:
    """`62 % (47-75)` for a share, `1.4 (1.0-2.1)` for a mean, `-` where nothing was measured."""
    if kpi.value is None:
        return "-"
    share = UNITS[name] == "share"
    digits = 0 if share or UNITS[name] == "tokens" else 1
    value, low, high = (
        None if part is None else f"{part * (100 if share else 1) + HALF_UP:.{digits}f}"
        for part in (kpi.value, kpi.low, kpi.high)
    )
    unit = " %" if share else ""
    return f"{value}{unit}" if low is None or high is None else f"{value}{unit} ({low}-{high})"


def read_run(folder: Path) -> Run:
    """What `kpis.json` of a run folder says.

    Raises:
        UserError: if it is missing, is no JSON, or lacks a field.
    """
    path = folder / "kpis.json"
    try:
        return Run.model_validate(json_to_object(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read: {error.strerror}. Is {folder} the folder of a finished run?"
        ) from None
    except ValidationError as error:
        raise UserError(f"{path}: {describe_validation_error(error, Run)}") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def _read_rows(folders: Sequence[Path]) -> list[Row]:
    rows: list[Row] = []
    for folder in folders:
        run = read_run(folder)
        if any(row.run.label == run.label for row in rows):
            raise UserError(f"{folder / 'kpis.json'}: field 'label': {run.label!r} is taken by a run before it")
        records = list(read_trajectories(folder / "trajectories.jsonl"))
        page = _label_to_page(run.label, {row.page.casefold() for row in rows})
        rows.append(Row(run, records, page, _change(rows[-1].records, records) if rows else None))
    if not rows:
        raise UserError("a leaderboard needs at least one run folder")
    return rows


def _label_to_page(label: str, taken: set[str]) -> str:
    """A file name that is safe everywhere, and no other page's, also where upper and lower case are the same."""
    stem = re.sub(r"[^\w.-]+", "-", label).strip(".-")[:60] or "run"
    number = 1
    name = f"{stem}.html"
    while name.casefold() in taken | {"index.html"}:
        number += 1
        name = f"{stem}-{number}.html"
    return name


def _change(before: list[Trajectory], after: list[Trajectory]) -> Comparison | None:
    if any("id" not in task_of(record) for record in [*before, *after]):
        return None
    return compare_success(before, after)


def _row_to_json(row: Row) -> dict[str, Any]:
    return {
        **row.run.model_dump(mode="json"),
        "page": row.page,
        "change": None if row.change is None else asdict(row.change),
    }


# ---- the index ----


def _index_page(rows: Sequence[Row]) -> str:
    head = ['<th scope="col"><button type="button">#</button></th>']
    for title in ["Run", *(TITLES[name][0] for name in UNITS), "Tasks", "Minutes"]:
        head.append(f'<th scope="col"><button type="button">{_escape(title)}</button></th>')
    # A bar of a mean is drawn against the largest end of an interval among all runs; a share against 100 %.
    largest = {
        name: 1.0 if unit == "share" else max(_reach(row.run.kpis.get(name, NOTHING)) for row in rows)
        for name, unit in UNITS.items()
    }
    body = "\n".join(
        _index_row(place, row, rows[place - 2] if place > 1 else None, largest)
        for place, row in enumerate(rows, start=1)
    )
    meaning = "".join(f"<dt>{_escape(title)}</dt><dd>{_escape(text)}</dd>" for title, text in TITLES.values())
    return _page(
        "Leaderboard",
        f"""<header><h1>Leaderboard</h1>
<p>{_escape(_what_was_run(rows))} A thin line through a bar is the 95 % interval. Press a column's name to sort by it,
<b>#</b> to go back to the order given. Changes are against the run above in that order.</p></header>
<table id="board"><caption class="unseen">Runs and their KPIs</caption>
<thead><tr>{"".join(head)}</tr></thead>
<tbody>
{body}
</tbody></table>
<h2>Task success by world</h2>
<div class="worlds">{_worlds(rows)}</div>
<h2>What the numbers mean</h2>
<dl class="meaning">{meaning}</dl>
<p class="quiet">The numbers with their intervals: <a href="leaderboard.json">leaderboard.json</a></p>""",
        script=SORT_SCRIPT,
    )


def _what_was_run(rows: Sequence[Row]) -> str:
    kinds = {(row.run.split, row.run.count, row.run.seed) for row in rows}
    if len(kinds) > 1:
        return "These runs used different tasks, so their numbers cannot be compared row by row."
    split, count, seed = kinds.pop()
    return f"{count} tasks of the {split} split, seed {seed}, judged by the final state of real sandboxes."


def _index_row(place: int, row: Row, before: Row | None, largest: dict[str, float]) -> str:
    run = row.run
    cells = [
        f'<td class="place" data-value="{place}">{place}</td>',
        f'<th scope="row" data-value="{_escape(run.label)}"><a href="{_escape(row.page)}">{_escape(run.label)}</a>'
        f'<span class="quiet model">{_escape(run.model)}</span></th>',
    ]
    for name in UNITS:
        kpi = run.kpis.get(name, NOTHING)
        value = "" if kpi.value is None else repr(kpi.value)
        change = "" if before is None else _change_text(name, row, before)
        cells.append(
            f'<td data-name="{_escape(TITLES[name][0])}" data-value="{value}"><span class="number">'
            f"{_escape(kpi_to_text(name, kpi))}</span>{_bar(kpi, largest[name])}{change}</td>"
        )
    cells.append(f'<td data-name="Tasks" data-value="{len(row.records)}">{len(row.records)}</td>')
    minutes = run.wall_seconds / 60
    cells.append(f'<td data-name="Minutes" data-value="{minutes!r}">{minutes:.1f}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def _change_text(name: str, row: Row, before: Row) -> str:
    """The difference to the run before; for task success with its paired interval and what that says."""
    if row.change is None or row.change.value is None or row.change.unpaired:
        return '<span class="quiet">not the same tasks</span>' if name == "success_rate" else ""
    if name == "success_rate":
        change = row.change
        interval = (
            "" if change.low is None or change.high is None else f" ({_points(change.low)} to {_points(change.high)})"
        )
        kind, verdict = ("", "within chance")
        if change.significant_gain:
            kind, verdict = " good", "a gain"
        elif change.significant_loss:
            kind, verdict = " bad", "a loss"
        return f'<span class="quiet{kind}">{_points(row.change.value)} points{interval}, {verdict}</span>'
    now, then = (one.run.kpis.get(name, NOTHING).value for one in (row, before))
    if now is None or then is None:
        return ""
    text = f"{_points(now - then)} points" if UNITS[name] == "share" else f"{now - then:+.1f}"
    return f'<span class="quiet">{text}</span>'


def _points(share: float) -> str:
    # Adding 0 turns -0.0 into 0.0, so that no change always reads "+0.0".
    return f"{round(100 * share, 1) + 0:+.1f}"


def _reach(kpi: Kpi) -> float:
    return max(kpi.value or 0.0, kpi.high or 0.0)


def _bar(kpi: Kpi, largest: float) -> str:
    """A bar with its interval; the text beside it says the same, so a screen reader may skip it."""
    if kpi.value is None:
        return ""
    scale = 100 / largest if largest > 0 else 0.0
    interval = ""
    if kpi.low is not None and kpi.high is not None:
        x1, x2 = kpi.low * scale, kpi.high * scale
        interval = (
            f'<line x1="{x1:.1f}" x2="{x2:.1f}" y1="5" y2="5"/><line x1="{x1:.1f}" x2="{x1:.1f}" y1="2" y2="8"/>'
            f'<line x1="{x2:.1f}" x2="{x2:.1f}" y1="2" y2="8"/>'
        )
    return (
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="100" height="10"/><rect class="value" width="{kpi.value * scale:.1f}" height="10"/>'
        f"{interval}</svg>"
    )


def _worlds(rows: Sequence[Row]) -> str:
    parts = []
    for world in sorted({world for row in rows for world in row.run.by_world}):
        lines = []
        for row in rows:
            kpi = row.run.by_world.get(world, {}).get("success_rate", NOTHING)
            lines.append(
                f'<li><span class="who">{_escape(row.run.label)}</span>{_bar(kpi, 1.0)}'
                f'<span class="number">{_escape(kpi_to_text("success_rate", kpi))}</span></li>'
            )
        parts.append(f"<section><h3>{_escape(world)}</h3><ul>{''.join(lines)}</ul></section>")
    return "".join(parts)


# ---- a run's transcripts ----


def _run_page(row: Row) -> str:
    run = row.run
    command = run.command if isinstance(run.command, str) else shlex.join(run.command)
    facts = {
        "Model": run.model,
        "Hash of the model": run.model_hash or "-",
        "Tasks": f"{run.count} of the {run.split} split, seed {run.seed}",
        "Command": command or "-",
        "Versions": ", ".join(f"{name} {version}" for name, version in run.versions.items()) or "-",
        "Trained on": "-" if run.trained_on is None else json.dumps(run.trained_on, ensure_ascii=False),
        **{TITLES[name][0]: kpi_to_text(name, run.kpis.get(name, NOTHING)) for name in UNITS},
    }
    shown = _spread(sorted(row.records, key=_task_id), TRANSCRIPTS)
    return _page(
        run.label,
        f"""<header><p><a href="index.html">All runs</a></p><h1>{_escape(run.label)}</h1></header>
<dl class="facts">{"".join(f"<dt>{_escape(name)}</dt><dd>{_escape(value)}</dd>" for name, value in facts.items())}</dl>
<h2>Transcripts</h2>
<p>{len(shown)} of {len(row.records)} tasks, spread evenly over their ids; every run shows the same ones. All of them stand in
trajectories.jsonl of the run. A call marked <span class="mark">injected</span> was right: the world made it fail on purpose,
to see whether the model recovers.</p>
{"".join(_transcript(record) for record in shown)}""",
    )


def _task_id(record: Trajectory) -> str:
    return str(task_of(record).get("id", record.id))


def _spread(records: Sequence[Trajectory], most: int) -> list[Trajectory]:
    """At most `most` records at even distances, so that every world is seen and two runs show the same tasks."""
    count = min(len(records), most)
    return [records[place * len(records) // count] for place in range(count)]


def _transcript(record: Trajectory) -> str:
    extra, metadata = record.metadata.model_extra or {}, record.metadata
    injected = {step: str(kind) for step, kind in _pairs(extra.get("injected"))}
    advice = {advised.step: advised for advised in metadata.advice}
    steps = [_step(action, injected.get(step), advice.get(step)) for step, action in enumerate(record.action_sequence)]
    kind = {Outcome.SUCCESS: "good", Outcome.FAILURE: "bad", Outcome.PARTIAL: "middling"}[record.outcome]
    score = extra.get("score")
    verdict = record.outcome.value + ("" if score is None else f", score {score}")
    answer = "It gave no answer." if metadata.answer is None else metadata.answer
    return f"""<details class="task"><summary><span class="chip {kind}">{record.outcome.value}</span>
<b>{_escape(_task_id(record))}</b> <span class="quiet">{_escape(_shorten(metadata.instruction or "", 90))}</span></summary>
<h3>Instruction</h3>{_pre(metadata.instruction or "")}
<ol>{"".join(steps)}</ol>
<h3>Answer</h3>{_pre(answer)}{_advice(advice.get(len(steps)))}
<h3>Verdict</h3><p class="{kind}">{_escape(verdict)}: {_escape(extra.get("why", "no reason was recorded"))}</p></details>
"""


def _pairs(value: Any) -> list[tuple[Any, Any]]:
    """`injected` as the benchmark writes it, [[step, kind], ...]; records from elsewhere may hold anything there."""
    if not isinstance(value, list):
        return []
    return [(pair[0], pair[1]) for pair in value if isinstance(pair, list) and len(pair) == 2 and type(pair[0]) is int]


def _step(action: Action, injected: str | None, advice: Advice | None) -> str:
    said = "".join(_pre(text, "said") for text in (action.reasoning, action.text) if text)
    mark = "" if injected is None else f' <span class="mark">injected: {_escape(injected)}</span>'
    if action.error is not None:
        result = f'<div class="label bad">error{mark}</div>{_pre(action.error, "bad")}'
    else:
        result = f'<div class="label">result{mark}</div>{_pre(output_to_text(action.output))}'
    arguments = (
        action.input if isinstance(action.input, str) else json.dumps(action.input, ensure_ascii=False, indent=1)
    )
    return f"<li>{said}<div><code>{_escape(action.command)}</code></div>{_pre(arguments)}{result}{_advice(advice)}</li>"


def _advice(advice: Advice | None) -> str:
    if advice is None:
        return ""
    if advice.command is None:
        text = f"answer: {advice.answer or ''}"
    else:
        text = f"{advice.command} {json.dumps(advice.input, ensure_ascii=False)}"
    return f'<div class="label">what the expert would have done here</div>{_pre(text, "advice")}'


def _pre(text: str, kind: str = "") -> str:
    return f'<pre class="{kind}" dir="auto">{_escape(_shorten(text, SHOWN_CHARACTERS))}</pre>'


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}... ({len(text) - most} more characters)"


def _escape(value: object) -> str:
    return html.escape(str(value), quote=True)


def _page(title: str, body: str, *, script: str = "") -> str:
    """A whole page. Only the given script may run, known by its hash."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"'sha256-{digest}'" if script else "'none'"
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src {allowed}; base-uri 'none'; form-action 'none'"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_escape(title)} - tooltune</title>
<style>{STYLE}</style></head>
<body><main>
{body}
</main>{f"<script>{script}</script>" if script else ""}</body></html>
"""


STYLE = """
:root { color-scheme: light dark; --paper: #fcfcfb; --ink: #1d1e20; --quiet: #5e636b; --line: #dfe1e4; --soft: #f1f2f3;
  --bar: #6f8fe0; --link: #2b4fb8; --good: #17724a; --bad: #b0322a; --middling: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --paper: #151619; --ink: #e7e7e4; --quiet: #a0a5ae; --line: #32353b;
  --soft: #1f2125; --bar: #4d6cc0; --link: #9db4ff; --good: #62cc95; --bad: #f2938a; --middling: #e0b060; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", "Noto Sans KR", "Noto Sans CJK KR",
    "Apple SD Gothic Neo", "Malgun Gothic", sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; }
h1 { font-size: 1.6rem; margin: 0 0 .4rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: .95rem; margin: 1rem 0 .3rem; } header p, h2 + p { max-width: 46rem; margin: 0 0 1rem; }
a { color: var(--link); } .quiet { color: var(--quiet); font-size: .8rem; } .good { color: var(--good); }
.bad { color: var(--bad); } .middling { color: var(--middling); }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .6rem .55rem; border-bottom: 1px solid var(--line); }
thead th { padding: 0; vertical-align: bottom; border-bottom: 2px solid var(--line); }
thead button { width: 100%; padding: .45rem .55rem; border: 0; background: none; color: var(--quiet); font: inherit;
  font-size: .8rem; font-weight: 600; text-align: left; cursor: pointer; border-radius: 4px; }
thead button:hover { color: var(--ink); background: var(--soft); }
button:focus-visible, summary:focus-visible, a:focus-visible { outline: 2px solid var(--link); outline-offset: 1px; }
th[aria-sort] button { color: var(--ink); } th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
td .quiet, th .model { display: block; font-weight: 400; overflow-wrap: anywhere; } th[scope=row] { max-width: 13rem; }
.number { white-space: nowrap; } td.place { color: var(--quiet); }
.bar { display: block; width: 100%; min-width: 4.5rem; height: 9px; margin: .3rem 0 .2rem; }
.bar .track { fill: var(--soft); stroke: none; } .bar .value { fill: var(--bar); }
.bar line { stroke: var(--ink); stroke-width: 1.4; vector-effect: non-scaling-stroke; }
.worlds { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr)); gap: 0 2.5rem; }
.worlds ul { list-style: none; margin: 0; padding: 0; font-size: .9rem; }
.worlds li { display: grid; grid-template-columns: 6.5rem 1fr 7.5rem; gap: .7rem; align-items: center; padding: .12rem 0; }
.who { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.2rem; margin: 0; font-size: .9rem; }
dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
details.task { border-top: 1px solid var(--line); padding: .15rem 0; } details[open] { padding-bottom: 1.2rem; }
summary { cursor: pointer; padding: .35rem 0; overflow-wrap: anywhere; }
.chip { display: inline-block; min-width: 4.4rem; font-size: .8rem; font-weight: 600; }
ol { padding-left: 1.5rem; margin: .8rem 0; } li + li { margin-top: .9rem; } .worlds li + li { margin-top: 0; }
code, pre { font-family: ui-monospace, "SF Mono", Consolas, "Noto Sans Mono CJK KR", monospace; font-size: .85rem; }
li code { font-weight: 600; overflow-wrap: anywhere; }
pre { margin: .2rem 0; padding: .45rem .65rem; background: var(--soft); border-radius: 4px; white-space: pre-wrap;
  overflow-wrap: anywhere; max-height: 24rem; overflow: auto; }
pre.said { background: none; padding-left: 0; color: var(--quiet); }
pre.advice { border: 1px dashed var(--line); background: none; }
.label { font-size: .78rem; color: var(--quiet); margin-top: .35rem; } .label.bad { color: var(--bad); }
.mark { color: var(--middling); border: 1px solid currentColor; border-radius: 3px; padding: 0 .3rem; font-size: .75rem; }
@media (max-width: 62rem) {
  table, tbody, tr, td, th[scope=row] { display: block; } thead, thead tr { display: flex; flex-wrap: wrap; }
  thead th { border: 0; } thead button { border: 1px solid var(--line); margin: 0 .3rem .3rem 0; width: auto; }
  tbody tr { border-top: 2px solid var(--line); padding: .7rem 0; }
  td, th[scope=row] { border: 0; padding: .25rem 0; max-width: none; }
  td.place { display: none; }
  td[data-name] { display: grid; grid-template-columns: 9rem 1fr; gap: 0 .8rem; align-items: center; }
  td[data-name]::before { content: attr(data-name); color: var(--quiet); font-size: .85rem; }
  td[data-name] > .bar, td[data-name] > .quiet { grid-column: 2; } th[scope=row] a { font-size: 1.1rem; }
}
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; }
  .worlds li { grid-template-columns: 4.5rem 1fr 7rem; gap: .5rem; } }
"""

SORT_SCRIPT = """
const board = document.getElementById("board"), body = board.tBodies[0], heads = [...board.tHead.rows[0].cells];
heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
  // Names and places begin at the small end, KPIs at the large one; a second press turns the order round.
  const first = column < 2 ? "ascending" : "descending", other = column < 2 ? "descending" : "ascending";
  const order = head.getAttribute("aria-sort") === first ? other : first;
  heads.forEach(each => each.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1, value = row => row.cells[column].dataset.value;
  const compare = (a, b) => {
    if (value(a) === "" || value(b) === "") return (value(a) === "") - (value(b) === "");  // the unmeasured come last
    return sign * (column === 1 ? value(a).localeCompare(value(b)) : Number(value(a)) - Number(value(b)));
  };
  [...body.rows].sort(compare).forEach(row => body.append(row));
}));
"""
