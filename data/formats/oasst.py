"""OpenAssistant's message trees (OASST1, OASST2): a prompt, its replies, their replies; siblings ranked by people.

Both published layouts are read. On the hub each row is one message, and those of a tree are neighbours: they arrive as
`{"rows": [{"message_id", "parent_id", "message_tree_id", "text", "role": "prompter" | "assistant", "rank", "lang",
"deleted", "review_result", ...}, ...]}`. In the `.trees.jsonl.gz` files a row is a tree: `{"message_tree_id", "prompt":
{"message_id", "text", ..., "replies": [{..., "replies": []}]}}`. `row_to_tree` makes the same `Reply` of both.

Left out with everything below them, as if they were not there: messages that were deleted, and messages that their
reviewers rejected (`review_result` false; null means that nobody has decided). Ranks count from 0, the best.

Köpf et al. 2023, "OpenAssistant Conversations", arXiv 2304.07327.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from data.chats import Chat, Message, PreferencePair, Skip, what_is_said
from data.formats.adapter import Adapter, Terms
from data.formats.parts import Row, Unrepresentable, skip_if_unrepresentable, unknown_role, with_columns

_ROLES = {"prompter": "user", "assistant": "assistant"}


@dataclass(frozen=True)
class Reply:
    """One message of a tree and what was replied to it, in the order of the file."""

    id: str
    message: Message
    rank: int | None
    """Place among its siblings, 0 is the best; null where they were not ranked."""
    lang: str | None
    replies: tuple[Reply, ...]


def row_to_tree(row: Row) -> tuple[str, Reply]:
    """The id and the root of a tree, from either layout; deleted and rejected messages are left out.

    Raises:
        Unrepresentable: where the messages are no tree, or the first one is not a user's.
    """
    rows = row.get("rows", [row])
    if not isinstance(rows, list) or not rows or not all(isinstance(item, dict) for item in rows):
        raise Unrepresentable("no list of messages")
    if "prompt" in rows[0]:
        if len(rows) > 1:
            raise Unrepresentable("two trees of one id")
        root, tree_id = rows[0]["prompt"], rows[0].get("message_tree_id")
        replies_of = None
    else:
        replies_of = _replies_by_parent(rows)
        if len(replies_of.get(None, [])) != 1:
            raise Unrepresentable("a tree without its one first message")
        root, tree_id = replies_of[None][0], rows[0].get("message_tree_id")
    tree = _reply(root, replies_of)
    if tree is None:
        raise Unrepresentable("the first message was deleted or rejected")
    if tree.message.role != "user":
        raise Unrepresentable("a tree that does not begin with a prompter")
    if not isinstance(tree_id, str) or not tree_id:
        tree_id = tree.id  # a tree is named after its first message
    return tree_id, tree


def _replies_by_parent(rows: list[Row]) -> dict[str | None, list[Row]]:
    replies_of: dict[str | None, list[Row]] = {}
    if not all(isinstance(message.get("message_id"), str) for message in rows):
        raise Unrepresentable("a message without an id")
    ids = {message["message_id"] for message in rows}
    if len(ids) != len(rows):
        raise Unrepresentable("two messages of one id")
    for message in rows:
        parent = message.get("parent_id")
        if parent is not None and (not isinstance(parent, str) or parent not in ids):
            raise Unrepresentable("a message whose parent is missing")
        replies_of.setdefault(parent, []).append(message)
    return replies_of


def _reply(value: Any, replies_of: dict[str | None, list[Row]] | None) -> Reply | None:
    """A message with its replies: those of the table, or of its own field where there is none."""
    if not isinstance(value, dict):
        raise Unrepresentable("a message that is no object")
    if value.get("deleted") is True or value.get("review_result") is False:
        return None
    role, text, rank, own_id = value.get("role"), value.get("text"), value.get("rank"), value.get("message_id")
    if not isinstance(role, str) or role not in _ROLES:
        raise unknown_role(role)
    if not isinstance(text, str):
        raise Unrepresentable("a text that is not text")
    if isinstance(rank, float) and rank.is_integer():  # a table with nulls holds whole numbers as floats
        rank = int(rank)
    if rank is not None and (not isinstance(rank, int) or isinstance(rank, bool) or rank < 0):
        raise Unrepresentable("a rank that is no number from 0 on")
    if not isinstance(own_id, str) or not own_id:
        raise Unrepresentable("a message without an id")
    children = (value.get("replies") or []) if replies_of is None else replies_of.get(own_id, [])
    if not isinstance(children, list):
        raise Unrepresentable("replies are no list")
    replies = tuple(reply for child in children if (reply := _reply(child, replies_of)) is not None)
    if any(reply.message.role == _ROLES[role] for reply in replies):
        raise Unrepresentable("a reply by the side that spoke before")
    lang = value.get("lang")
    message = Message(role=_ROLES[role], content=text)  # type: ignore[arg-type]  # one of the two values above
    return Reply(own_id, message, rank, lang if isinstance(lang, str) else None, replies)


def paths_to(root: Reply) -> Iterator[tuple[Reply, ...]]:
    """The path from the root to each message of a tree, parents before their replies."""
    paths: list[tuple[Reply, ...]] = [(root,)]
    while paths:
        path = paths.pop()
        yield path
        paths.extend((*path, reply) for reply in reversed(path[-1].replies))


@skip_if_unrepresentable
def oasst_pairs_row(row: Row) -> list[PreferencePair | Skip]:
    """Each two ranked answers to one message as a pair: the better-ranked one is chosen, the margin is the distance of their
    ranks. The prompt is the path to that message; all pairs of a tree are one group.

    Answers without a rank where siblings have one, and answers of one rank, are Skips; so is a tree without two answers
    to any message.
    """
    tree_id, root = row_to_tree(row)
    results: list[PreferencePair | Skip] = []
    for path in paths_to(root):
        answers = [reply for reply in path[-1].replies if reply.message.role == "assistant"]
        if len(answers) < 2:
            continue
        ranked = sorted((a for a in answers if a.rank is not None), key=lambda a: a.rank or 0)
        results += [Skip("an answer that was not ranked")] * (len(answers) - len(ranked))
        prompt = tuple(reply.message for reply in path)
        for better, worse in combinations(ranked, 2):
            assert better.rank is not None and worse.rank is not None
            if better.rank == worse.rank:
                results.append(Skip("two answers of one rank"))
            elif what_is_said([better.message]) == what_is_said([worse.message]):
                results.append(Skip("both sides are the same"))
            else:
                results.append(
                    PreferencePair(
                        prompt=prompt,
                        chosen=(better.message,),
                        rejected=(worse.message,),
                        margin=worse.rank - better.rank,
                        id=f"{better.id}/{worse.id}",
                        source=root.lang or "",
                        group=tree_id,
                    )
                )
    if not results:
        raise Unrepresentable("no two answers to one message")
    return results


def _path_to_chat(tree_id: str, path: tuple[Reply, ...]) -> Chat:
    """A path whose last message is an assistant's as a chat, named after that message; all of a tree are one group."""
    return Chat(
        messages=tuple(reply.message for reply in path),
        id=path[-1].id,
        source=path[0].lang or "",
        group=tree_id,
    )


@skip_if_unrepresentable
def oasst_best_row(row: Row) -> Chat:
    """The best path through a tree as one chat: at each message the reply with the best rank, the earlier one where ranks are
    equal, and unranked replies last. Of prompters, who are mostly not ranked, those that were answered go first. A last
    message of a prompter, which nobody answered, is left out."""
    tree_id, reply = row_to_tree(row)
    path = [reply]
    while reply.replies:
        reply = min(
            reply.replies, key=lambda r: (r.message.role == "user" and not r.replies, r.rank is None, r.rank or 0)
        )
        path.append(reply)
    if path[-1].message.role == "user":
        path.pop()
    if not path:
        raise Unrepresentable("a prompt without an answer")
    return _path_to_chat(tree_id, tuple(path))


@skip_if_unrepresentable
def oasst_all_row(row: Row) -> list[Chat]:
    """Every path of a tree to a last answer as a chat, so a message above a fork is in several of them."""
    tree_id, root = row_to_tree(row)
    chats = [
        _path_to_chat(tree_id, path)
        for path in paths_to(root)
        if path[-1].message.role == "assistant" and not any(asked.replies for asked in path[-1].replies)
    ]
    if not chats:
        raise Unrepresentable("a prompt without an answer")
    return chats


_OASST_COLUMNS = (
    "message_tree_id", "message_id", "parent_id", "text", "role", "rank", "lang", "deleted", "review_result", "prompt",
)  # fmt: skip

ADAPTERS = (
    Adapter(
        name="oasst1",
        kind="chat",
        function=oasst_best_row,
        columns=_OASST_COLUMNS,
        hub_id="OpenAssistant/oasst1",
        terms=Terms(licence="apache-2.0"),
        matches=with_columns("message_tree_id"),
        group_by="message_tree_id",
        harmless=frozenset({"labels"}),
        schema="real rows",
        note="One chat a tree, its best-ranked path. Reads the hub's rows of messages and the .trees.jsonl.gz files.",
    ),
    Adapter(
        name="oasst1_all",
        kind="chat",
        function=oasst_all_row,
        columns=_OASST_COLUMNS,
        hub_id="OpenAssistant/oasst1",
        terms=Terms(licence="apache-2.0"),
        matches=with_columns("message_tree_id"),
        group_by="message_tree_id",
        harmless=frozenset({"labels"}),
        schema="real rows",
        note="Every path to a last answer is a chat, so messages above a fork are in several. A tree is one group.",
    ),
    Adapter(
        name="oasst2",
        kind="chat",
        function=oasst_best_row,
        columns=_OASST_COLUMNS,
        hub_id="OpenAssistant/oasst2",
        terms=Terms(licence="apache-2.0"),
        matches=with_columns("message_tree_id"),
        group_by="message_tree_id",
        harmless=frozenset({"labels"}),
        schema="recalled",
        note="As oasst1.",
    ),
    Adapter(
        name="oasst2_all",
        kind="chat",
        function=oasst_all_row,
        columns=_OASST_COLUMNS,
        hub_id="OpenAssistant/oasst2",
        terms=Terms(licence="apache-2.0"),
        matches=with_columns("message_tree_id"),
        group_by="message_tree_id",
        harmless=frozenset({"labels"}),
        schema="recalled",
        note="As oasst1_all.",
    ),
    Adapter(
        name="oasst1_pairs",
        kind="pair",
        function=oasst_pairs_row,
        columns=_OASST_COLUMNS,
        hub_id="OpenAssistant/oasst1",
        terms=Terms(licence="apache-2.0"),
        matches=with_columns("message_tree_id"),
        group_by="message_tree_id",
        harmless=frozenset({"labels"}),
        schema="real rows",
        note="Each two ranked answers to one message; margin: distance of their ranks (1 or more).",
    ),
    Adapter(
        name="oasst2_pairs",
        kind="pair",
        function=oasst_pairs_row,
        columns=_OASST_COLUMNS,
        hub_id="OpenAssistant/oasst2",
        terms=Terms(licence="apache-2.0"),
        matches=with_columns("message_tree_id"),
        group_by="message_tree_id",
        harmless=frozenset({"labels"}),
        schema="public pages",
        note="Each two ranked answers to one message; margin: distance of their ranks (1 or more).",
    ),
)
