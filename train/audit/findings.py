"""What a check of the audit counted, and the limits it is held against (limits.yaml, the only place that holds them)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, RootModel

from core.config import read_config
from core.errors import printable
from train.plan import duration

Level = Literal["ok", "warning", "error"]
EXAMPLES = 5
"""Rows that a finding names at most."""


class Limit(BaseModel):
    """One check: what is counted, the shares above which it warns and refuses (None: never), and what to do about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    counted: str
    warn_above: float | None
    refuse_above: float | None
    remedy: str


LIMITS = read_config(Path(__file__).with_name("limits.yaml"), RootModel[dict[str, Limit]]).root
"""Every finding there is, in the order in which they are told."""


@dataclass(frozen=True)
class Finding:
    """What one check counted. `rows` are the ids of the first rows it counted."""

    name: str
    count: float
    total: float
    rows: tuple[str, ...] = ()
    detail: str = ""

    @property
    def share(self) -> float:
        return self.count / self.total if self.total else 0.0

    @property
    def level(self) -> Level:
        limit = LIMITS[self.name]
        if limit.refuse_above is not None and self.share > limit.refuse_above:
            return "error"
        return "warning" if limit.warn_above is not None and self.share > limit.warn_above else "ok"

    @property
    def told(self) -> str:
        """Count, total and share as one reads them."""
        if self.name == "time":
            return f"{duration(self.count)} of {duration(self.total)}"
        if self.name in ("memory", "disk"):
            return f"{self.count / 1e9:.1f} of {self.total / 1e9:.1f} GB"
        return f"{self.count:,.0f} of {self.total:,.0f} ({self.share:.1%})"

    def as_dict(self) -> dict[str, Any]:
        """The finding as run.json holds it."""
        return {**asdict(self), "share": self.share, "level": self.level}


@dataclass
class Tally:
    """A finding while it is being counted."""

    count: int = 0
    total: int = 0
    rows: list[str] = field(default_factory=list)

    def add(self, hit: object, row: str) -> None:
        """Count one more, which is found where `hit` is true."""
        self.total += 1
        if hit:
            self.count += 1
            if len(self.rows) < EXAMPLES and row not in self.rows:
                self.rows.append(row)


class Tallies(defaultdict[str, Tally]):
    """Findings by name while they are being counted."""

    def __init__(self) -> None:
        super().__init__(Tally)

    def findings(self) -> Iterator[Finding]:
        """What was counted, in the order in which it was met."""
        for name, tally in self.items():
            yield Finding(name, tally.count, tally.total, tuple(tally.rows))


def limit_of(finding: Finding) -> float | None:
    """The share that a finding is above, or would have to be to warn."""
    limit = LIMITS[finding.name]
    return limit.refuse_above if finding.level == "error" else limit.warn_above


def explain(finding: Finding) -> str:
    """One finding in one line: what was counted, against which limit, in which rows, and what to do."""
    limit = LIMITS[finding.name]
    rows = f" Rows: {', '.join(printable(row)[:100] for row in finding.rows)}." if finding.rows else ""
    why = f" ({finding.detail})" if finding.detail else ""
    return (
        f"{finding.name}: {finding.told} {limit.counted}{why}; the limit is {percent(limit_of(finding))}.{rows} "
        f"{limit.remedy[0].upper()}{limit.remedy[1:]}."
    )


def percent(share: float | None) -> str:
    """A share as the table shows it."""
    return "never" if share is None else f"{100 * share:g} %"


def limits_to_markdown() -> str:
    """The table of docs/audit.md."""
    lines = [
        "| finding | what is counted, and out of what | warns above | refuses above | what to do |",
        "|---|---|--:|--:|---|",
    ]
    for name, limit in LIMITS.items():
        remedy = limit.remedy.replace("|", "\\|")
        lines.append(
            f"| `{name}` | {limit.counted} | {percent(limit.warn_above)} | {percent(limit.refuse_above)} | {remedy} |"
        )
    return "\n".join(lines) + "\n"
