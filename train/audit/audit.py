"""The pre-flight audit: what usually goes wrong with a run is looked for before the run, and told with rows and a remedy.

    python train/sft.py --config ... --dry_run true       audit and plan, train nothing

Each check counts something ("trained calls whose tool is not declared") out of something ("all trained calls"). limits.yaml
says above which share that is a warning and above which the run is refused; nothing else decides. Checks are plain functions
over the prepared set (rows.py, pairs.py, labels.py), what was rendered from it (rendered.py), and the plan of the run; they
change nothing.

A limit is passed knowingly with `--audit_allow NAME`, finding by finding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from core.errors import UserError, nearest
from data.chats import Label
from data.curation.contamination import Reference
from train.audit.findings import LIMITS, Finding, explain, limit_of, percent
from train.audit.labels import audit_labels
from train.audit.pairs import audit_pairs
from train.audit.rendered import audit_rendering
from train.audit.rows import audit_repetition, audit_test_tasks, audit_turns
from train.plan import TrainingPlan, shape_of

if TYPE_CHECKING:
    from rich.console import Console

    from data.rendering.renderer import Renderer
    from data.sets.prepared import Prepared
    from train.tree import Rendered, RenderReport

WEEK_SECONDS = 7 * 24 * 3600.0


def audit_plan(plan: TrainingPlan, prepared: Prepared, rendered: Mapping[str, Sequence[Rendered]]) -> Iterator[Finding]:
    """What the run itself would stumble over."""
    asked_for = (prepared.manifest.get("config") or {}).get("validation_share", 0) > 0
    yield Finding("no_validation", int(asked_for and not rendered["validation"]), int(asked_for))
    yield Finding("batch", plan.global_batch, plan.rows)
    yield Finding("warmup", plan.warmup_steps, plan.steps)
    yield Finding("memory", plan.memory, plan.memory_free)
    yield Finding("disk", plan.disk, plan.disk_free)
    yield Finding("time", plan.seconds, WEEK_SECONDS)
    by_choice = ("outcome is ", "left out by weight ")
    read = dropped = 0
    reasons: Counter[str] = Counter()
    for source in prepared.manifest.get("sources", []):
        read += source["read"]
        for reason, count in source["dropped"].items():
            if reason.startswith(by_choice):
                read -= count
            else:
                dropped += count
                reasons[reason] += count
    why = "; ".join(f"{reason}: {count:,}" for reason, count in reasons.most_common(3))
    yield Finding("dropped_at_build", dropped, read, (), why)


# -------------------------------------------------------------------- all of it


def audit(
    prepared: Prepared,
    rendered: Mapping[str, Sequence[Rendered]],
    reports: Mapping[str, RenderReport],
    plan: TrainingPlan,
    renderer: Renderer,
    model: Any,
    *,
    max_tokens: int | None,
    tasks: Reference | None,
    label_weights: Mapping[Label, float] | None = None,
) -> list[Finding]:
    """All findings of a run, those within their limits too, in the order of `LIMITS`.

    `label_weights` are what the losses of good and bad chats are multiplied with, where chats are labelled.
    """
    rows = (*prepared.train, *prepared.validation)
    config = model.config.get_text_config()
    served = model.generation_config.eos_token_id
    findings = [
        *audit_turns(rows, control_texts(renderer)),
        *audit_repetition(prepared.train, prepared.validation, copies=_copies(prepared)),
        *(audit_pairs(rows) if prepared.kind == "pair" else ()),
        *(audit_labels(prepared.train, label_weights) if label_weights is not None else ()),
        *([audit_test_tasks(rows, tasks)] if tasks is not None else ()),
        *audit_rendering(
            prepared, rendered, reports, renderer,
            max_tokens=max_tokens,
            served_stop_ids=served if isinstance(served, list) else [] if served is None else [served],
            window=getattr(config, "max_position_embeddings", None),
            vocabulary=shape_of(model.get_input_embeddings().weight)[0],
        ),
        *audit_plan(plan, prepared, rendered),
    ]  # fmt: skip
    order = {name: place for place, name in enumerate(LIMITS)}
    return sorted(findings, key=lambda finding: order[finding.name])


def control_texts(renderer: Renderer) -> set[str]:
    """Texts that the template writes as single tokens, and that a trained turn must not hold as plain text."""
    added = renderer.tokenizer.added_tokens_decoder.values()
    texts = {token.content for token in added if token.special or token.content in renderer.tokenizer.chat_template}
    html = {"<s>", "</s>", "<unk>", "<pad>"}  # people write these for other reasons
    return {text for text in texts if text.strip() and text not in html} | {"<tool_call>", "[TOOL_CALLS]"}


def _copies(prepared: Prepared) -> int:
    return int(prepared.manifest["splits"]["train"].get("copies", 0))


def check_allowed(names: Collection[str]) -> None:
    """Refuse names that are no finding.

    Raises:
        UserError: naming the nearest right one.
    """
    for name in names:
        if name not in LIMITS:
            raise UserError(
                f"--audit_allow {name}: there is no such finding.{nearest(name, LIMITS)} All: docs/audit.md"
            )


def refusal(findings: Iterable[Finding], allowed: Collection[str]) -> str | None:
    """Why a run is refused, or None: each error that is not allowed, with its rows and what to do."""
    errors = [finding for finding in findings if finding.level == "error" and finding.name not in allowed]
    if not errors:
        return None
    names = " ".join(finding.name for finding in errors)
    told = "\n".join(f"  {explain(finding)}" for finding in errors)
    return (
        f"the audit refuses this run\n{told}\nTo train all the same, knowingly: --audit_allow {names} "
        "(limits: docs/audit.md)"
    )


def print_findings(console: Console, findings: Sequence[Finding], allowed: Collection[str]) -> None:
    """What is above its limit as a table, then each that does not refuse the run (`refusal` tells the others) in words."""
    found = [finding for finding in findings if finding.level != "ok"]
    if not found:
        console.print(f"  audit: {len(findings)} checks, nothing found")
        return
    table = Table(title="audit", title_justify="left")
    for name in ("finding", "level", "found", "limit"):
        table.add_column(name, justify="right" if name in ("found", "limit") else "left")
    for finding in found:
        level = "allowed" if finding.name in allowed else finding.level
        table.add_row(finding.name, level, finding.told, percent(limit_of(finding)))
    console.print(table)
    for finding in found:
        if finding.level == "warning" or finding.name in allowed:
            console.print(f"  {explain(finding)}", markup=False)  # ids may hold [brackets]
