"""What was rendered: rows that were dropped or cut, and sequences that could not be learned from."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from data.chats import Chat, Skip
from train.audit.findings import EXAMPLES, Finding, Tallies, Tally
from train.audit.rows import avoided_turns, imitated_turns

if TYPE_CHECKING:
    from data.rendering.renderer import Renderer
    from data.sets.prepared import Prepared
    from train.tree import Rendered, RenderReport


def audit_rendering(
    prepared: Prepared,
    rendered: Mapping[str, Sequence[Rendered]],
    reports: Mapping[str, RenderReport],
    renderer: Renderer,
    *,
    max_tokens: int | None,
    served_stop_ids: Collection[int],
    window: int | None,
    vocabulary: int,
) -> Iterator[Finding]:
    """Rows that were dropped or cut, and sequences that could not be learned from, of both splits together.

    Args:
        served_stop_ids: at which the model's own generation_config stops.
        window: the longest sequence that the model takes, in tokens; null where it has no such limit.
        vocabulary: rows of the model's embeddings.
    """
    read = sum(report.read for report in reports.values())
    kept = sum(report.kept for report in reports.values())
    dropped: Counter[str] = Counter()
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    for report in reports.values():
        for reason, count in report.dropped.items():
            dropped[_family(reason)] += count
            reasons[_family(reason)][reason] += count
    examples = _dropped_rows(prepared, rendered, renderer, max_tokens) if dropped else {}
    tallies = Tallies()
    for row in (row for split in rendered.values() for row in split):
        sequences = [sequence for side in row.sides for sequence in side]
        ends = {end for ids, weights in sequences for end in _ends(ids, weights)}
        tallies["no_stop_token"].add(not ends <= set(renderer.stop_ids), row.id)
        tallies["stop_not_served"].add(not ends <= set(served_stop_ids), row.id)
        tallies["unknown_ids"].add(any(max(ids) >= vocabulary for ids, _ in sequences), row.id)
        if window is not None:
            tallies["context_window"].add(max(len(ids) for ids, _ in sequences) > window, row.id)
        if len(row.sides) == 2 and row.label is None:  # the second side of a labelled chat is a mismatched one
            tallies["same_sides"].add(_scored(row.sides[0]) == _scored(row.sides[1]), row.id)
    unstopped = tallies.pop("no_stop_token", Tally())
    yield from tallies.findings()
    for name in ("template_loses", "no_stop_token", "dropped"):
        more = unstopped if name == "no_stop_token" else Tally()
        why = "; ".join(f"{reason}: {count:,}" for reason, count in reasons[name].most_common(3))
        rows = tuple([*more.rows, *examples.get(name, [])][:EXAMPLES])
        yield Finding(name, dropped[name] + more.count, read, rows, why)
    parts = sum((report.lost for report in reports.values()), Counter())
    why = "; ".join(f"{part}: {count:,}" for part, count in parts.most_common())
    yield Finding("lost_context", sum(report.lost_rows for report in reports.values()), kept, (), why)
    yield Finding("cut", sum(report.cut_rows for report in reports.values()), kept)
    lost = sum(report.dropped_targets for report in reports.values())
    examples_of_set = (*prepared.train, *prepared.validation)
    turns = sum(len(imitated_turns(row)[1]) for row in examples_of_set)
    turns += sum(len(avoided_turns(row)) for row in examples_of_set if isinstance(row, Chat))
    yield Finding("lost_turns", lost, turns)
    tokens = sum(report.tokens for report in reports.values())
    scored = sum(report.scored_tokens for report in reports.values())
    yield Finding("little_scored", tokens - scored, tokens)
    yield Finding("all_scored", scored, tokens)


def _family(reason: str) -> str:
    """The check that a reason of the renderer belongs to."""
    if "no stop token" in reason:
        return "no_stop_token"
    return "template_loses" if reason.startswith("the template ") else "dropped"


def _dropped_rows(
    prepared: Prepared, rendered: Mapping[str, Sequence[Rendered]], renderer: Renderer, max_tokens: int | None
) -> dict[str, list[str]]:
    """Ids of some dropped rows by check. Reports hold only counts, so some rows are rendered again to learn their reason."""
    examples: dict[str, list[str]] = defaultdict(list)
    kept = {row.id for split in rendered.values() for row in split}
    dropped = (row for row in (*prepared.train, *prepared.validation) if row.id not in kept)
    for row in islice(dropped, 50):
        render = renderer.chat_to_tree if isinstance(row, Chat) else renderer.pair_to_tree
        tree = render(row, max_tokens=max_tokens)
        if isinstance(tree, Skip) and row.id not in examples[_family(tree.reason)]:
            examples[_family(tree.reason)].append(row.id)
    return examples


def _ends(ids: Sequence[int], weights: Sequence[float]) -> Iterator[int]:
    """The last token of each stretch of scored tokens."""
    for at, weight in enumerate(weights):
        if weight > 0 and (at + 1 == len(weights) or weights[at + 1] == 0):
            yield ids[at]


def _scored(side: Sequence[tuple[Sequence[int], Sequence[float]]]) -> list[int]:
    return [token for ids, weights in side for token, weight in zip(ids, weights, strict=True) if weight > 0]
