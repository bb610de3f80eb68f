"""Chats, pairs and trajectories as labelled chats: what KTO trains on, good and bad ones apart.

A pair becomes two chats of one group, the chosen side good and the rejected one bad; what was said before both is context. A
trajectory is good where it succeeded and bad where it did not. A chat has its label already, or nobody judged it.
"""

from __future__ import annotations

from collections.abc import Iterator

from data.chats import Chat, Label, Message, PreferencePair, Result, Skip

BAD_IS_NOT_IMITATED = Skip("labelled bad, so it is not imitated")
NO_LABEL = Skip("no label")


def to_labelled(result: Result) -> Iterator[Result]:
    """A result as labelled chats; the weight and the margin of a pair have no place in them."""
    if isinstance(result, PreferencePair):
        yield from pair_to_chats(result)
    elif isinstance(result, Chat) and result.label is None:
        yield NO_LABEL
    else:
        yield result


def pair_to_chats(pair: PreferencePair) -> tuple[Chat, Chat]:
    """The chosen side as a good chat and the rejected one as a bad chat; both score what the pair scores of them."""
    prompt = tuple(
        message.model_copy(update={"weight": 0.0}) if message.role == "assistant" else message
        for message in pair.prompt
    )

    def chat(name: str, side: tuple[Message, ...], label: Label) -> Chat:
        return Chat(
            messages=(*prompt, *side),
            tools=pair.tools,
            id=f"{pair.id}/{name}",
            source=pair.source,
            licence=pair.licence,
            group=pair.group or pair.trunk or f"{pair.source}:{pair.id}",
            label=label,
        )

    return chat("chosen", pair.chosen, "good"), chat("rejected", pair.rejected, "bad")
