"""Anthropic's HH-RLHF -> PreferencePair: two transcripts that share all but the assistant's last words.

A row: `{"chosen": "\\n\\nHuman: ..\\n\\nAssistant: ..", "rejected": "\\n\\nHuman: ..\\n\\nAssistant: .."}`. The markers are
plain text, and some were typed: a person pastes a dialogue, or the model goes on and plays both parts. Three facts about
the set tell a typed marker from a turn:

* people and the model take turns, so a marker of the one who speaks already is text of that turn;
* the two transcripts share their history, and only the answer to its last message differs;
* that answer is one turn, so a `\\n\\nHuman:` after the point where they part is either typed or another set's longer dialogue.
  Nothing tells which, and the row is a Skip; so is an answer whose typed marker stands in both transcripts.

One space after a marker belongs to it; all other whitespace is kept. There is no margin.

Bai et al. 2022, "Training a Helpful and Harmless Assistant with RLHF", arXiv 2204.05862.
"""

from __future__ import annotations

import re

from data.chats import Message, PreferencePair
from data.formats.adapter import Adapter, Terms
from data.formats.parts import Row, Unrepresentable, row_id, skip_if_unrepresentable, with_content
from data.formats.preference import conversations_to_pair, text_in

_MARKER = re.compile(r"\n\n(Human|Assistant):")


def transcript_to_messages(text: str) -> list[Message]:
    """The turns of a transcript. A marker of the one who speaks already is part of the text.

    Raises:
        Unrepresentable: where it does not begin with a human's turn.
    """
    before, *pieces = _MARKER.split(text)
    if before.strip() or not pieces or pieces[0] != "Human":
        raise Unrepresentable("a transcript that does not begin with a human")
    turns: list[tuple[str, str]] = []
    for speaker, said in zip(pieces[::2], pieces[1::2], strict=True):
        if turns and turns[-1][0] == speaker:
            turns[-1] = (speaker, f"{turns[-1][1]}\n\n{speaker}:{said}")
        else:
            turns.append((speaker, said.removeprefix(" ")))
    return [Message(role="user" if speaker == "Human" else "assistant", content=said) for speaker, said in turns]


@skip_if_unrepresentable
def hh_rlhf_row(row: Row) -> PreferencePair:
    """One pair: the shared history is the prompt, the last turn of each transcript is its side."""
    pair = conversations_to_pair(
        transcript_to_messages(text_in(row, "chosen")),
        transcript_to_messages(text_in(row, "rejected")),
        id=row_id(row),
    )
    if len(pair.chosen) > 1 or len(pair.rejected) > 1:
        raise Unrepresentable("a human's marker after the transcripts part")
    typed_at = [side[0].content.find("\n\nAssistant:") for side in (pair.chosen, pair.rejected)]
    if min(typed_at) >= 0 and pair.chosen[0].content[: typed_at[0]] == pair.rejected[0].content[: typed_at[1]]:
        raise Unrepresentable("a typed marker that both answers share")
    return pair


def holds_transcripts(row: Row) -> bool:
    """Whether both sides are transcripts that begin with a human."""
    return row["chosen"].startswith("\n\nHuman:") and row["rejected"].startswith("\n\nHuman:")


ADAPTERS = (
    Adapter(
        name="hh_rlhf",
        kind="pair",
        function=hh_rlhf_row,
        columns=("chosen", "rejected"),
        hub_id="Anthropic/hh-rlhf",
        terms=Terms(licence="mit"),
        matches=with_content(
            "chosen", "rejected", holds=holds_transcripts, what="transcripts of a human and an assistant"
        ),
        schema="real rows",
        note="Markers that somebody typed inside a turn stay text; what cannot be told apart is left out. The folder "
        "red-team-attempts holds no pairs. Offensive text. No margin.",
    ),
)
