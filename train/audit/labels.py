"""Labels of chats that are unbalanced, or contradict each other."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from core.screen import with_progress
from data.chats import Chat, Label, what_is_said
from train.audit.findings import Finding, Tallies
from train.audit.rows import digest

OPTION: Mapping[Label, str] = {"good": "desirable_weight", "bad": "undesirable_weight"}
"""Of TRL's, by the label whose loss it multiplies."""


def audit_labels(train: Sequence[Chat], weights: Mapping[Label, float]) -> Iterator[Finding]:
    """How far good and bad chats are out of balance under `weights`, and which chats have both labels.

    Balanced is a ratio of 1 to 4/3 of weighted good to weighted bad chats (arXiv 2402.01306, equation 8). The proposed weight
    makes it 1.
    """
    count = Counter(chat.label for chat in train if chat.label is not None)
    weighted = {label: count[label] * weights[label] for label in OPTION}
    rare, frequent = sorted(OPTION, key=lambda label: weighted[label])
    proposal = "there is only one label"
    if count[rare] and weighted[frequent]:
        needed = weighted[frequent] / count[rare]
        proposal = f"--{OPTION[rare]} {needed:.3g} balances them"
    told = ", ".join(f"{count[label]:,} {label} of weight {weights[label]:g}" for label in OPTION)
    yield Finding("unbalanced_labels", weighted[frequent], sum(weighted.values()), (), f"{told}: {proposal}")

    labels: dict[bytes, set[Label | None]] = defaultdict(set)
    keys = [_key(chat) for chat in train]
    for chat, key in zip(train, keys, strict=True):
        labels[key].add(chat.label)
    tallies = Tallies()
    for chat, key in with_progress(zip(train, keys, strict=True), "auditing labels"):
        tallies["opposite_labels"].add(len(labels[key]) > 1, chat.id)
    yield from tallies.findings()


def _key(chat: Chat) -> bytes:
    return digest([what_is_said(chat.messages), [message.loss_weight for message in chat.messages]])
