"""See what is trained: the tokens of one row, coloured by trained and context, with the branches of its tree.

    python -m data show runs/quickstart/round-1/sft-data/train.jsonl --model .cache/smollm2-135m --row 3
    python -m data show pairs.jsonl --model Qwen/Qwen3-0.6B --row 0 --html pair.html

Works for prepared chats, preference pairs and trajectory records. Context that `--max_length` cuts stays in sight, struck
through. NO_COLOR is honoured: trained tokens are then set in [brackets], cut ones in {braces}.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from rich.text import Text

from core.errors import WHITE, UserError, printable
from data.chats import Chat, Message, PreferencePair, Skip
from data.rendering.control_tokens import common_prefix
from data.rendering.renderer import Renderer
from data.rendering.token_tree import TokenTree

STYLES = {"chat": "bold green", "chosen": "bold green", "rejected": "bold red", "cut": "strike yellow"}
BRACKETS = {"chat": "[]", "chosen": "[]", "rejected": "[]", "cut": "{}"}


@dataclass(frozen=True)
class Segment:
    """A stretch of the tree without a fork. `parent` is the segment it hangs on (-1 for the first)."""

    parent: int
    nodes: tuple[int, ...]


@dataclass(frozen=True)
class Piece:
    """Neighbouring tokens that make whole characters together, all trained in the same way."""

    ids: tuple[int, ...]
    text: str
    label: str | None
    """"chat", "chosen" or "rejected" where trained, "cut" where it was cut, None where context."""
    weight: float


def tree_to_segments(tree: TokenTree) -> list[Segment]:
    """The tree as stretches between forks, each after the one it hangs on."""
    children: dict[int, int] = {}
    for parent in tree.parents:
        children[parent] = children.get(parent, 0) + 1
    segment_of: dict[int, int] = {}
    segments: list[list[Any]] = []
    for node, parent in enumerate(tree.parents):
        if parent >= 0 and children[parent] == 1:
            segment = segment_of[parent]
        else:
            segments.append([segment_of.get(parent, -1), []])
            segment = len(segments) - 1
        segments[segment][1].append(node)
        segment_of[node] = segment
    return [Segment(parent, tuple(nodes)) for parent, nodes in segments]


def cut_before(tree: TokenTree, full: TokenTree) -> dict[int, tuple[int, ...]]:
    """What of `full`, the same row without a limit, was cut from `tree`: per node, the ids that stood before it.

    What the kept turn and the cut one begin with alike stands before the cut, as the tree shares it.
    """
    whole = {(target.label, target.turn): full.path(target.nodes[-1]) for target in full.targets}
    scored = {node for target in tree.targets for node in target.nodes}
    cuts: dict[int, tuple[int, ...]] = {}
    for target in tree.targets:
        path = tree.path(target.nodes[-1])
        kept = [tree.ids[node] for node in path]
        ids = [full.ids[node] for node in whole[target.label, target.turn]]
        cut = len(ids) - len(kept)
        start = common_prefix(ids, kept)
        if target.label != "chat":  # both sides of a pair were cut alike, so the cut can stand before their words
            start = min(start, next(at for at, node in enumerate(path) if node in scored))
        if cut <= 0:
            continue
        if ids[start + cut :] == kept[start:]:
            cuts.setdefault(path[start], tuple(ids[start : start + cut]))
    return cuts


def segment_to_pieces(
    tree: TokenTree, segment: Segment, renderer: Renderer, cuts: Mapping[int, tuple[int, ...]] = MappingProxyType({})
) -> Iterator[Piece]:
    """Pieces of a segment. Bytes of one character that fell into several tokens are shown together."""
    scored: dict[int, tuple[str, float]] = {}
    for target in tree.targets:
        for node in target.nodes:
            # A token that both sides share is shown with the first, which is `chosen`.
            scored.setdefault(node, (target.label, target.weight))
    waiting: list[int] = []
    for position, node in enumerate(segment.nodes):
        if node in cuts:
            yield Piece(cuts[node], renderer.tokenizer.decode(list(cuts[node]), skip_special_tokens=False), "cut", 0.0)
        waiting.append(node)
        text = renderer.tokenizer.decode([tree.ids[n] for n in waiting], skip_special_tokens=False)
        here = scored.get(node)
        following = segment.nodes[position + 1] if position + 1 < len(segment.nodes) else None
        ends = following is None or following in cuts or scored.get(following) != here
        if "�" in text and not ends and len(waiting) < 8:
            continue
        label, weight = here if here else (None, 0.0)
        yield Piece(tuple(tree.ids[n] for n in waiting), text, label, weight)
        waiting = []


def tree_to_text(
    tree: TokenTree,
    renderer: Renderer,
    *,
    cuts: Mapping[int, tuple[int, ...]] = MappingProxyType({}),
    ids: bool = False,
    colour: bool = True,
) -> Text:
    """The tree for a terminal: context dim, trained tokens green (chosen) or red (rejected), cut ones struck through."""
    text = Text()
    for number, segment in enumerate(tree_to_segments(tree)):
        if number:
            text.append(f"\n\n── branch {number} from the end of {_segment_name(segment.parent)} ──\n", style="bold")
        inside: str | None = None
        for piece in segment_to_pieces(tree, segment, renderer, cuts):
            style = STYLES[piece.label] if piece.label else "dim"
            if not colour and piece.label != inside:
                text.append(BRACKETS[inside][1] if inside else "")
                text.append(BRACKETS[piece.label][0] if piece.label else "")
            inside = piece.label
            shown = printable(piece.text, keep=WHITE)
            text.append(shown, style=style if colour else None)
            if ids:
                text.append("‹" + ",".join(map(str, piece.ids)) + "›", style="cyan" if colour else None)
        if not colour and inside:
            text.append(BRACKETS[inside][1])
    return text


def _segment_name(number: int) -> str:
    return "the trunk" if number == 0 else f"branch {number}" if number > 0 else "nothing"


def describe_messages(record: Chat | PreferencePair) -> list[str]:
    """One line for each message: its place, who speaks, how it is weighed."""
    parts: list[tuple[str, Sequence[Message]]] = (
        [("", record.messages)]
        if isinstance(record, Chat)
        else [("", record.prompt), ("chosen ", record.chosen), ("rejected ", record.rejected)]
    )
    first = 0 if isinstance(record, Chat) else len(record.prompt)
    lines = []
    for side, messages in parts:
        for number, message in enumerate(messages, start=first if side else 0):
            # In a pair the prompt's turns are history, whatever they weigh.
            weight = message.loss_weight if isinstance(record, Chat) or side else 0.0
            how = f"trained, weight {weight:g}" if weight else "context"
            lines.append(f"{side}message {number}, {message.role}: {how}")
    return lines


def describe_tree(tree: TokenTree) -> list[str]:
    """The facts under the picture: sizes, and each target's tokens and weight."""
    scored = sum(len(target.nodes) for target in tree.targets)
    sequences = sum(len(ids) for label in {t.label for t in tree.targets} for ids, _ in tree.rows(label))
    lines = [
        f"id {printable(tree.id)}",
        f"{len(tree.ids)} tokens in the tree, {sequences} in its sequences, {scored} scored",
    ]
    if tree.cut_tokens:
        lines.append(f"{tree.cut_tokens} context tokens were cut from the old end")
    if tree.dropped_targets:
        lines.append(f"{tree.dropped_targets} turns do not fit even so and are not trained")
    if tree.lost:
        lines.append(f"the template does not show {', '.join(tree.lost)} in the context")
    lines += [f"{t.label} turn {t.turn}: {len(t.nodes)} tokens, weight {t.weight:g}" for t in tree.targets]
    return lines


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --context: #767676; --good: #1a7f37; --bad: #b3261e; --cut: #8a5a00;
  --edge: #8884; }}
@media (prefers-color-scheme: dark) {{ :root {{ --context: #9a9a9a; --good: #56d364; --bad: #ff8a80;
  --cut: #e3b341; }} }}
body {{ font: 15px/1.55 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; font: 13px/1.6 ui-monospace, monospace;
  border: 1px solid var(--edge); border-radius: 8px; padding: 1rem; }}
.context {{ color: var(--context); }}
.chat, .chosen {{ color: var(--good); font-weight: 600; background: color-mix(in srgb, var(--good) 12%, transparent); }}
.cut {{ color: var(--cut); text-decoration: line-through; }}
.rejected {{ color: var(--bad); font-weight: 600; background: color-mix(in srgb, var(--bad) 12%, transparent); }}
span[title]:hover {{ outline: 1px solid currentColor; }}
</style>
<h1>{title}</h1>
<p>{legend}. Point at a token for its id.</p>
{body}
<ul>{facts}</ul>
</html>
"""


LEGEND = {
    "context": "context",
    "chat": "trained",
    "chosen": "trained (chosen)",
    "rejected": "trained (rejected)",
    "cut": "cut",
}


def tree_to_html(
    tree: TokenTree,
    renderer: Renderer,
    *,
    cuts: Mapping[int, tuple[int, ...]] = MappingProxyType({}),
    messages: Sequence[str] = (),
) -> str:
    """The tree as one static page; everything of the row is escaped. `messages` are lines of `describe_messages`."""
    blocks = []
    segments = tree_to_segments(tree)
    depth = [0] * len(segments)
    labels = {"context"}
    for number, segment in enumerate(segments):
        depth[number] = depth[segment.parent] + 1 if number else 0
        spans = []
        for piece in segment_to_pieces(tree, segment, renderer, cuts):
            label = piece.label or "context"
            labels.add(label)
            title = f"{len(piece.ids)} tokens cut" if label == "cut" else ", ".join(map(str, piece.ids))
            title += f" · weight {piece.weight:g}" if piece.weight else ""
            spans.append(f'<span class="{label}" title="{title}">{html.escape(piece.text)}</span>')
        heading = f"<p>branch {number} from the end of {_segment_name(segment.parent)}</p>" if number else ""
        indent = f' style="margin-left: {1.5 * min(depth[number], 6)}rem"' if number else ""
        blocks.append(f"<div{indent}>{heading}<pre>{''.join(spans)}</pre></div>")
    facts = "".join(f"<li>{html.escape(line)}</li>" for line in (*describe_tree(tree), *messages))
    return _PAGE.format(
        title=html.escape(f"tokens of {tree.id}"),
        body="\n".join(blocks),
        facts=facts,
        legend=" · ".join(f'<span class="{label}">{name}</span>' for label, name in LEGEND.items() if label in labels),
    )


def row_to_tree(record: Chat | PreferencePair, renderer: Renderer, *, max_tokens: int | None = None) -> TokenTree:
    """The tree of a chat or a pair.

    Raises:
        UserError: if the model's template cannot show it, with the reason.
    """
    make = renderer.chat_to_tree if isinstance(record, Chat) else renderer.pair_to_tree
    tree = make(record, max_tokens=max_tokens)  # type: ignore[arg-type] # each maker gets its own kind
    if isinstance(tree, Skip):
        raise UserError(f"row {record.id} would be dropped: {tree.reason}")
    return tree
