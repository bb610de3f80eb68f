"""What was found, as JSON and as a Markdown table, written after every part: a run that is cut off leaves what it has."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from core.files import write_whole

Verdict = Literal["right", "wrong", "broken", "told", "not run"]
"""`told` has no bound that decides; `broken` is a part that raised; of these, `wrong` and `broken` fail the check."""
FAILING = ("wrong", "broken")


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    part: str
    """Its letter."""
    about: str
    verdict: Verdict
    line: str
    """What was measured or what went wrong, in one line."""
    figures: dict[str, Any] = field(default_factory=dict)


def exit_code(findings: Sequence[Finding]) -> int:
    """1 where a result is wrong or a part broke. A missed target of speed is told and no more."""
    return int(any(finding.verdict in FAILING for finding in findings))


def write_report(findings: Sequence[Finding], about: dict[str, Any], out: Path) -> None:
    """`check.json` and `check.md` in the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    told = {**about, "exit_code": exit_code(findings), "findings": [asdict(finding) for finding in findings]}
    write_whole(out / "check.json", json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    write_whole(out / "check.md", to_markdown(findings, about))


def to_markdown(findings: Sequence[Finding], about: dict[str, Any]) -> str:
    """A page with the command, the versions and a row for each finding."""
    versions = ", ".join(f"{name} {number}" for name, number in about.get("versions", {}).items() if number)
    lines = [
        f"# GPU check: {about.get('device', 'unknown')}",
        "",
        f"`{about.get('command', 'scripts/gpu_check')}`, {about.get('seconds', 0):.0f} s, {about.get('date', '')}, revision "
        f"{about.get('revision') or 'unknown'}.",
        "",
        versions + ".",
        "",
        "| part | what | verdict | |",
        "|---|---|---|---|",
    ]
    for finding in findings:
        verdict = f"**{finding.verdict}**" if finding.verdict in FAILING else finding.verdict
        lines.append(f"| {finding.part} | {_cell(finding.about)} | {verdict} | {_cell(finding.line)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
