"""Token trees: tokens with parents, and the targets that are scored. Every token is computed once."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """One assistant turn to be scored: the nodes of its tokens in the tree, stop token included.

    `label` is "chat", "chosen" or "rejected"; `turn` is the message's index in its chat (for a pair: in prompt + side);
    `weight` multiplies the loss of each token.
    """

    label: str
    turn: int
    nodes: tuple[int, ...]
    weight: float


@dataclass(frozen=True)
class TokenTree:
    """Tokens with parents. `ids[n]` is token n, `parents[n]` the node before it (-1 for the first), always < n.

    A path from the root is a sequence as the model sees it. Only tokens named by a target are scored.
    """

    ids: tuple[int, ...]
    parents: tuple[int, ...]
    targets: tuple[Target, ...]
    id: str = ""
    cut_tokens: int = 0
    """Context tokens that were cut from the old end so that targets fit, summed over turns."""
    dropped_targets: int = 0
    """Targets that did not fit even alone with system, tools and their own turn."""
    lost: tuple[str, ...] = ()
    """What contexts hold and the template does not show, as a server with it would not either."""

    def path(self, node: int) -> list[int]:
        """Nodes from the root to `node`, both included; ascending."""
        if self.parents[: node + 1] == tuple(range(-1, node)):
            return list(range(node + 1))  # most trees are one path
        nodes = []
        while node >= 0:
            nodes.append(node)
            node = self.parents[node]
        return nodes[::-1]

    def longest(self) -> int:
        """Tokens of the longest sequence that is scored."""
        return max(len(self.path(target.nodes[-1])) for target in self.targets)

    def rows(self, label: str = "chat") -> list[tuple[list[int], list[float]]]:
        """The tree as plain sequences (ids, loss weight per token): each target of `label` is scored in exactly one.

        A chat whose template only appends gives one row; each rewritten history adds one.
        """
        open_targets = [target for target in self.targets if target.label == label]
        rows = []
        while open_targets:
            path = self.path(max(target.nodes[-1] for target in open_targets))
            weights = [0.0] * len(path)
            rest = []
            for target in open_targets:
                start = bisect_left(path, target.nodes[0])
                end = start + len(target.nodes)
                if tuple(path[start:end]) == target.nodes:
                    weights[start:end] = [target.weight] * len(target.nodes)
                else:
                    rest.append(target)
            rows.append(([self.ids[node] for node in path], weights))
            open_targets = rest
        return rows[::-1]


class TreeBuilder:
    """A trie: sequences go in one after another, shared prefixes are stored once. `path` is where it stands."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.parents: list[int] = []
        self.path: list[int] = []
        self._children: dict[tuple[int, int], int] = {}
        """Children that do not stand right after their parent; most do, and need no entry."""

    def extend(self, ids: Sequence[int], *, after: int) -> tuple[int, ...]:
        """Go back to the first `after` tokens of the path, put `ids` behind them, and return their nodes."""
        del self.path[after:]
        node = self.path[-1] if self.path else -1
        shared = 0
        for token in ids:
            child = self._child(node, token)
            if child is None:
                break
            self.path.append(child)
            node = child
            shared += 1
        new = ids[shared:]
        if new:
            start = len(self.ids)
            if start != node + 1:
                self._children[node, new[0]] = start
            self.ids += new
            self.parents.append(node)
            self.parents += range(start, start + len(new) - 1)
            self.path += range(start, start + len(new))
        return tuple(self.path[after:])

    def _child(self, node: int, token: int) -> int | None:
        following = node + 1
        if following < len(self.ids) and self.parents[following] == node and self.ids[following] == token:
            return following
        return self._children.get((node, token))
