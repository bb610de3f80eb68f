"""Chat | PreferencePair + the model's own tokenizer and template -> TokenTree. The only place where words become ids.

For every assistant turn that is trained, the model's own template is asked twice, just as a server asks it:

    context = render(messages before the turn, add_generation_prompt=True)        what the model is given
    turn    = render(messages up to and with the turn)                            what it should look like afterwards

The target is what `turn` adds to `context`, up to and with its stop token. No template is re-implemented, none is matched
by name; a template that does not show a turn this way is refused with the reason, never trained on.

All turns go into one tree of tokens. Where the template only ever appends, the next context starts with this context and
target, and the tree is a single path. Where it rewrites history (dropping old reasoning, say) the paths part at the first
different token. Chosen and rejected of a pair are two such paths. Every token that two paths share stands in it once.

Text is text: a control token that somebody typed, in any field, is encoded as ordinary characters. To tell typed ones from
the template's own, the template is rendered with each typed control string replaced by a private character, and encoded by
a *shadow* of the tokenizer in which every control token goes by another private character, with the same id. Chats without
such text get exactly the ids of `apply_chat_template(tokenize=True)`; the renderer proves that on a probe when it is made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from data.chats import Chat, Message, PreferencePair, Skip, ToolCall
from data.errors import UserError, nearest
from data.records import ToolSpec, json_to_object

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

TEMPLATE_ADVICE = "choose a template that keeps them with --chat_template_path"


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

    def path(self, node: int) -> list[int]:
        """Nodes from the root to `node`, both included."""
        nodes = []
        while node >= 0:
            nodes.append(node)
            node = self.parents[node]
        return nodes[::-1]

    def rows(self, label: str = "chat") -> list[tuple[list[int], list[float]]]:
        """The tree as plain sequences (ids, loss weight per token): each target of `label` is scored in exactly one.

        A chat whose template only appends gives one row; each rewritten history adds one.
        """
        open_targets = [target for target in self.targets if target.label == label]
        rows = []
        while open_targets:
            leaf = max(open_targets, key=lambda target: target.nodes[-1])
            place = {node: position for position, node in enumerate(self.path(leaf.nodes[-1]))}
            weights = [0.0] * len(place)
            rest = []
            for target in open_targets:
                if target.nodes[-1] in place:
                    for node in target.nodes:
                        weights[place[node]] = target.weight
                else:
                    rest.append(target)
            rows.append(([self.ids[node] for node in place], weights))
            open_targets = rest
        return rows[::-1]


class _TreeBuilder:
    """A trie: sequences go in one after another, shared prefixes are stored once."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.parents: list[int] = []
        self._children: dict[tuple[int, int], int] = {}
        self._last_ids: list[int] = []
        self._last_nodes: list[int] = []

    def add(self, ids: list[int]) -> list[int]:
        """The nodes of `ids`. Starts at what is shared with the sequence before, so that an append costs its own length."""
        shared = _common_prefix(self._last_ids, ids)
        nodes = self._last_nodes[:shared]
        node = nodes[-1] if nodes else -1
        for token in ids[shared:]:
            child = self._children.get((node, token))
            if child is None:
                child = len(self.ids)
                self.ids.append(token)
                self.parents.append(node)
                self._children[node, token] = child
            node = child
            nodes.append(node)
        self._last_ids, self._last_nodes = ids, nodes
        return nodes


def _longest(tree: TokenTree) -> int:
    """Tokens of the longest sequence that is scored."""
    return max(len(tree.path(target.nodes[-1])) for target in tree.targets)


def _common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the common prefix, by halving with slice comparisons (which run in C)."""
    low, high = 0, min(len(first), len(second))
    if first[:high] == second[:high]:
        return high
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


class Unrenderable(ValueError):
    """A chat that this template cannot show as training needs it; the message is the counted reason."""


class _ControlTokens:
    """The tokenizer's control tokens and the private characters that stand for them.

    Control tokens are the special ones, and the added ones that the template writes itself (such as Qwen's `<tool_call>`).
    Character `first + k` stands for control token k as the template wrote it, `first + n + k` for its text typed by
    somebody. `first` moves when a chat happens to hold such characters itself.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, template: str) -> None:
        added = tokenizer.added_tokens_decoder
        self.texts = sorted(
            {t.content for t in added.values() if t.content.strip() and (t.special or t.content in template)},
            key=lambda text: (-len(text), text),
        )
        self._index = {text: k for k, text in enumerate(self.texts)}
        self._typed = re.compile("|".join(map(re.escape, self.texts)) or r"(?!)")
        self._backend = json.loads(tokenizer.backend_tokenizer.to_str())
        self._shadows: dict[int, Tokenizer] = {}
        self._sections: dict[tuple[int, str], list[int]] = {}

    def first_free(self, text: str) -> int:
        """Where the private characters start, so that none of them occurs in `text`."""
        first = 0x100000
        if not text or max(text) < chr(first):
            return first
        taken = {ord(character) for character in text if ord(character) >= first}
        while any(code in taken for code in range(first, first + 2 * len(self.texts))):
            first += 2 * len(self.texts)
            if first + 2 * len(self.texts) > 0x10FFFF:
                raise Unrenderable("the text fills the whole private-use plane")
        return first

    def mark(self, value: Any, first: int) -> Any:
        """`value` with each typed control string, in any string or key, replaced by its private character."""
        if isinstance(value, str):
            offset = first + len(self.texts)
            return self._typed.sub(lambda match: chr(offset + self._index[match[0]]), value)
        if isinstance(value, dict):
            return {self.mark(key, first): self.mark(item, first) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.mark(item, first) for item in value]
        return value

    def to_private(self, rendered: str, first: int) -> str:
        """Rendered text with the template's own control tokens as private characters and the typed ones as text again."""
        private = self._typed.sub(lambda match: chr(first + self._index[match[0]]), rendered)
        typed = re.compile(f"[{chr(first + len(self.texts))}-{chr(first + 2 * len(self.texts) - 1)}]")
        return typed.sub(lambda match: self.texts[ord(match[0]) - first - len(self.texts)], private)

    def to_text(self, private: str, first: int) -> str:
        """Private characters of control tokens back to the tokens' texts."""
        own = re.compile(f"[{chr(first)}-{chr(first + len(self.texts) - 1)}]")
        return own.sub(lambda match: self.texts[ord(match[0]) - first], private)

    def encode(self, private: str, first: int) -> list[int]:
        """Ids of private text. Control tokens split the text before anything else looks at it, so each stretch between two
        of them is encoded once, with its neighbours beside it (they may swallow its blanks), and remembered."""
        shadow = self._shadow(first)
        if not self.texts:
            return list(shadow.encode(private, add_special_tokens=False).ids)
        own = re.compile(f"([{chr(first)}-{chr(first + len(self.texts) - 1)}])")
        parts = own.split(private)
        if len(self._sections) > 50_000:
            self._sections.clear()
        ids: list[int] = []
        for at in range(0, len(parts), 2):
            left = parts[at - 1] if at > 0 else ""
            right = parts[at + 1] if at + 1 < len(parts) else ""
            if left:
                ids.append(self._id_of(left, shadow))
            if parts[at]:
                window = left + parts[at] + right
                section = self._sections.get((first, window))
                if section is None:
                    encoded = shadow.encode(window, add_special_tokens=False).ids
                    section = encoded[len(left) : len(encoded) - len(right)]
                    self._sections[first, window] = section
                ids.extend(section)
        return ids

    @staticmethod
    def _id_of(character: str, shadow: Tokenizer) -> int:
        token_id = shadow.token_to_id(character)
        assert token_id is not None, hex(ord(character))
        return int(token_id)

    def _shadow(self, first: int) -> Tokenizer:
        """The tokenizer with each control token renamed to its private character: same id, same everything else."""
        if first in self._shadows:
            return self._shadows[first]
        from tokenizers import Tokenizer  # noqa: PLC0415 - only needed with a model

        new_name = {text: chr(first + k) for k, text in enumerate(self.texts)}
        backend = json.loads(json.dumps(self._backend))
        for token in backend["added_tokens"]:
            if token["content"] in new_name:
                token["content"] = new_name[token["content"]]
                token["normalized"] = False
        model = backend["model"]
        vocabulary = model["vocab"]
        if isinstance(vocabulary, dict):
            model["vocab"] = {new_name.get(text, text): token_id for text, token_id in vocabulary.items()}
        else:  # Unigram: a list of [text, score]
            model["vocab"] = [[new_name.get(text, text), score] for text, score in vocabulary]
        if "merges" in model:
            # A merge that would build a control token out of typed characters must not exist.
            pairs = [m.split(" ", 1) if isinstance(m, str) else m for m in model["merges"]]
            model["merges"] = [
                [a, b] for a, b in pairs if a + b not in new_name and a not in new_name and b not in new_name
            ]
        if model.get("unk_token") in new_name:
            model["unk_token"] = new_name[model["unk_token"]]
        # Only names change; the post-processor adds tokens by name, and nothing here asks it to add any.
        backend["post_processor"] = None
        self._shadows[first] = Tokenizer.from_str(json.dumps(backend))
        return self._shadows[first]


class Renderer:
    """One tokenizer with one template. Cheap to use, some seconds to make (the tokenizer is read twice)."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, *, stop_ids: Sequence[int] = ()) -> None:
        """`stop_ids` are the ids that end generation, as in `generation_config.eos_token_id`.

        Raises:
            UserError: if there is no chat template, no stop token, or the tokenizer cannot be followed exactly.
        """
        name = tokenizer.name_or_path
        if not getattr(tokenizer, "is_fast", False):
            raise UserError(f"{name}: only fast tokenizers (tokenizer.json) can be used")
        if not tokenizer.chat_template or not isinstance(tokenizer.chat_template, str):
            raise UserError(f"{name}: the tokenizer has no chat template; give one with --chat_template_path")
        self.tokenizer = tokenizer
        self._control = _ControlTokens(tokenizer, tokenizer.chat_template)
        known = dict.fromkeys([*stop_ids, tokenizer.eos_token_id])
        self.stop_ids: tuple[int, ...] = tuple(token_id for token_id in known if token_id is not None)
        if not self.stop_ids:
            raise UserError(f"{name}: neither generation_config.json nor the tokenizer names a stop token")
        self._faults = self._probe()

    @classmethod
    def from_pretrained(cls, model: str | Path, *, chat_template_path: str | Path | None = None) -> Renderer:
        """The renderer of a model folder, an adapter folder or a hub id, without importing torch.

        An adapter folder holds the tokenizer and template it was trained with; they win over the base's, which still says
        what ends generation.

        Raises:
            UserError: if the model or the template file is missing, or the tokenizer cannot be used.
        """
        from transformers import GenerationConfig, PreTrainedTokenizerFast  # noqa: PLC0415 - seconds; only with a model

        base, adapter = find_base(str(model))
        source = adapter if adapter is not None and (Path(adapter) / "tokenizer.json").exists() else base
        try:
            tokenizer = PreTrainedTokenizerFast.from_pretrained(source)
        except (OSError, ValueError, TypeError) as error:
            where = "the folder has no" if Path(source).is_dir() else "no such folder, and the hub or its cache gave no"
            raise UserError(f"{source}: {where} usable tokenizer: {_first_line(error)}") from None
        if chat_template_path is not None:
            tokenizer.chat_template = read_chat_template(chat_template_path)
        try:
            stop = GenerationConfig.from_pretrained(base).eos_token_id
        except (OSError, ValueError):
            stop = None  # a model without generation_config.json: the tokenizer's eos is what generation stops at
        return cls(tokenizer, stop_ids=stop if isinstance(stop, list) else [] if stop is None else [stop])

    # ---------------------------------------------------------------- text

    def _template(self, messages: Sequence[dict[str, Any]], tools: list[dict[str, Any]], *, generate: bool) -> str:
        try:
            rendered = self.tokenizer.apply_chat_template(
                list(messages), tools=tools or None, add_generation_prompt=generate, tokenize=False
            )
        except Exception as error:  # a template may raise anything; whatever it is, the chat cannot be shown
            raise Unrenderable(f"the template refuses it: {_first_line(error)}") from None
        return str(rendered)

    def _prepare(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> tuple[list[Any], list[Any], int]:
        """Template input with typed control strings marked, and where the private characters start."""
        plain = [message.to_template() for message in messages]
        specs = [tool.model_dump() for tool in tools]
        everything = json.dumps([plain, specs], ensure_ascii=False)
        first = self._control.first_free(everything)
        return self._control.mark(plain, first), self._control.mark(specs, first), first

    def prompt_ids(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> list[int]:
        """What the model is given before it speaks: the template's ids, its generation prompt included.

        Raises:
            Unrenderable: if the template refuses the messages, or would silently lose what they hold.
        """
        self._refuse_what_is_lost(messages, tools)
        marked, specs, first = self._prepare(messages, tools)
        private = self._control.to_private(self._template(marked, specs, generate=True), first)
        return self._control.encode(private, first)

    # ---------------------------------------------------------------- trees

    def chat_to_tree(self, chat: Chat, *, max_tokens: int | None = None) -> TokenTree | Skip:
        """The tree of all assistant turns with a weight above 0, or a Skip with the reason.

        With `max_tokens`, contexts that do not fit lose their oldest turns (never system, tools or the turn's own last
        question), and a target that does not fit even so is dropped; both are counted on the tree.
        """
        trained = [t for t, message in enumerate(chat.messages) if message.loss_weight > 0]
        if not trained:
            return Skip("no assistant turn has a weight above 0")
        return self._tree([("chat", chat.messages, trained)], chat.tools, chat.id, max_tokens)

    def pair_to_tree(self, pair: PreferencePair, *, max_tokens: int | None = None) -> TokenTree | Skip:
        """The fork of a pair: the shared prompt, then the assistant turns of each side as targets.

        With `max_tokens`, both sides lose the same oldest turns of their prompt until the longer one fits.
        """
        full = self._fork(pair, pair.prompt)
        if isinstance(full, Skip) or max_tokens is None or _longest(full) <= max_tokens:
            return full
        start = 1 if pair.prompt[0].role == "system" else 0
        for keep_from in range(start + 1, len(pair.prompt)):
            if pair.prompt[keep_from].role != "user":
                continue  # as for chats: a history begins with a question
            tree = self._fork(pair, (*pair.prompt[:start], *pair.prompt[keep_from:]))
            if isinstance(tree, TokenTree) and _longest(tree) <= max_tokens:
                return replace(tree, cut_tokens=_longest(full) - _longest(tree))
        return Skip("a side does not fit into max_length")

    def _fork(self, pair: PreferencePair, prompt: tuple[Message, ...]) -> TokenTree | Skip:
        sides = []
        for label, side in (("chosen", pair.chosen), ("rejected", pair.rejected)):
            trained = [len(prompt) + t for t, message in enumerate(side) if message.loss_weight > 0]
            if not trained:
                return Skip(f"{label} has no assistant turn with a weight above 0")
            sides.append((label, (*prompt, *side), trained))
        return self._tree(sides, pair.tools, pair.id, None)

    def _tree(
        self,
        sides: Sequence[tuple[str, Sequence[Message], list[int]]],
        tools: Sequence[ToolSpec],
        name: str,
        max_tokens: int | None,
    ) -> TokenTree | Skip:
        builder = _TreeBuilder()
        targets: list[Target] = []
        cut_tokens = dropped = 0
        try:
            for label, messages, trained in sides:
                self._refuse_what_is_lost(messages, tools)
                marked, specs, first = self._prepare(messages, tools)
                for t in trained:
                    context, target = self._turn(messages, marked, specs, first, t)
                    if max_tokens is not None and len(context) + len(target) > max_tokens:
                        full = len(context)
                        shorter = self._cut(messages, marked, specs, first, t, max_tokens)
                        if shorter is None:
                            dropped += 1
                            continue
                        context, target = shorter
                        cut_tokens += full - len(context)
                    nodes = builder.add(context + target)
                    targets.append(Target(label, t, tuple(nodes[len(context) :]), messages[t].loss_weight))
        except Unrenderable as error:
            return Skip(str(error))
        if not targets:
            return Skip("no target fits into max_length")
        return TokenTree(tuple(builder.ids), tuple(builder.parents), tuple(targets), name, cut_tokens, dropped)

    def _turn(
        self, messages: Sequence[Message], marked: Sequence[Any], specs: list[Any], first: int, t: int
    ) -> tuple[list[int], list[int]]:
        """Context ids and target ids of message t.

        Raises:
            Unrenderable: if the template does not show the turn as an addition to its generation prompt, loses a part of
                it, or gives it no known stop token.
        """
        before = self._control.to_private(self._template(marked[:t], specs, generate=True), first)
        after = self._control.to_private(self._template(marked[: t + 1], specs, generate=False), first)
        if not after.startswith(before):
            raise Unrenderable("the template shows a finished turn differently from its generation prompt")
        completion = after[len(before) :]
        self._refuse_lost_words(messages[t], self._control.to_text(completion, first))
        context = self._control.encode(before, first)
        # A server encodes the prompt alone. Where one pass over both gives the same prompt, it gives the usual target too;
        # where the edge would merge, the target is encoded apart, as generation would continue.
        whole = self._control.encode(after, first)
        target = whole[len(context) :] if whole[: len(context)] == context else self._control.encode(completion, first)
        stop = next((at for at, token in enumerate(target) if token in self.stop_ids), None)
        if stop is None:
            raise Unrenderable("the template ends the turn with no stop token of generation_config")
        return context, target[: stop + 1]

    def _cut(
        self, messages: Sequence[Message], marked: Sequence[Any], specs: list[Any], first: int, t: int, max_tokens: int
    ) -> tuple[list[int], list[int]] | None:
        """The turn with as few of its oldest turns cut as makes it fit, or None."""
        start = 1 if messages[0].role == "system" else 0
        for keep_from in range(start + 1, t):
            if messages[keep_from].role != "user":
                continue  # a history begins with a question; that also keeps each result with its call
            kept = [*range(start), *range(keep_from, t + 1)]
            try:
                context, target = self._turn(
                    [messages[k] for k in kept], [marked[k] for k in kept], specs, first, len(kept) - 1
                )
            except Unrenderable:
                continue
            if len(context) + len(target) <= max_tokens:
                return context, target
        return None

    # ---------------------------------------------------------------- what a template must not lose

    def _refuse_what_is_lost(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> None:
        held = {
            "system": any(message.role == "system" for message in messages),
            "tools": bool(tools),
            "calls": any(message.tool_calls for message in messages),
            "results": any(message.role == "tool" for message in messages),
        }
        for part, fault in self._faults.items():
            if held[part]:
                raise Unrenderable(fault)

    @staticmethod
    def _refuse_lost_words(message: Message, completion: str) -> None:
        if message.content.strip() and message.content.strip() not in completion:
            raise Unrenderable(f"the template loses an assistant's content; {TEMPLATE_ADVICE}")
        reasoning = (message.reasoning_content or "").strip()
        if reasoning and reasoning not in completion:
            raise Unrenderable(f"the template loses an assistant's reasoning; {TEMPLATE_ADVICE}")
        if any(call.name not in completion for call in message.tool_calls):
            raise Unrenderable(f"the template loses a tool call; {TEMPLATE_ADVICE}")

    def _probe(self) -> dict[str, str]:
        """What this template loses, found by rendering words that occur nowhere else; also proves the shadow tokenizer.

        Raises:
            UserError: if ids differ from `apply_chat_template` on ordinary text, which would break promise 1.
        """
        tool = ToolSpec.model_validate(
            {
                "function": {
                    "name": "probe_tool",
                    "description": "Probe description.",
                    "parameters": {"type": "object", "properties": {"probe_key": {"type": "string"}}},
                }
            }
        )
        call = ToolCall(id="call_00000", name="probe_tool", arguments={"probe_key": "probe value 한국어"})
        system = Message(role="system", content="Probe system.")
        user = Message(role="user", content="Probe question 123? 한국어 🙂\n\n  indented")
        asks = Message(role="assistant", tool_calls=(call,))
        result = Message(role="tool", content="Probe result.", tool_call_id=call.id, name="probe_tool")
        answers = Message(role="assistant", content="Probe answer.")

        try:
            private = self._control.to_private(self._template([user.to_template()], [], generate=True), 0x100000)
        except Unrenderable as error:
            raise UserError(f"{self.tokenizer.name_or_path}: not even one question can be shown: {error}") from None
        own = self.tokenizer.apply_chat_template(
            [user.to_template()], add_generation_prompt=True, tokenize=True, return_dict=True
        )["input_ids"]
        if self._control.encode(private, 0x100000) != list(own):
            raise UserError(
                f"{self.tokenizer.name_or_path}: this tokenizer cannot be followed exactly (its ids change when control "
                "tokens are renamed); please report it with the tokenizer's name"
            )

        def shows(messages: list[Message], words: list[str]) -> str | None:
            try:
                text = self._template([m.to_template() for m in messages], [tool.model_dump()], generate=True)
            except Unrenderable as error:
                return str(error)
            missing = [word for word in words if word not in text]
            return f"it does not show {missing[0]!r}" if missing else None

        checks: dict[str, Callable[[], str | None]] = {
            "system": lambda: shows([system, user], ["Probe system."]),
            "tools": lambda: shows([user], ["probe_tool", "Probe description.", "probe_key"]),
            "calls": lambda: shows([user, asks, result], ["probe value 한국어"]),
            "results": lambda: shows([user, asks, result, answers, user], ["Probe result."]),
        }
        faults = {}
        for part, check in checks.items():
            if why := check():
                faults[part] = f"the template loses {part} ({why}); {TEMPLATE_ADVICE}"
        return faults

    # ---------------------------------------------------------------- and back

    def completion_to_message(self, ids: Sequence[int]) -> Message | str:
        """What a model emitted, as a message; or one line that says why it holds no readable call.

        The model's own response template is used where its tokenizer carries one; otherwise calls are read as
        `<tool_call>` JSON, which is how the ChatML family writes them.
        """
        kept = list(ids)
        while kept and kept[-1] in self.stop_ids:
            kept.pop()
        text = self.tokenizer.decode(kept, skip_special_tokens=False)
        if getattr(self.tokenizer, "response_template", None):
            try:
                parsed = self.tokenizer.parse_response(text)
            except Exception as error:  # whatever a response template raises, the text was not readable by it
                return f"unreadable turn: {_first_line(error)}"
            return _parsed_to_message(parsed)
        return text_to_message(text)


_THINK = re.compile(r"\A\s*<think>\n?(.*?)\n?</think>\s*", re.DOTALL)
_CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)


def text_to_message(text: str) -> Message | str:
    """Assistant text with `<tool_call>` JSON in it, as a message; or one line that says what cannot be read."""
    reasoning = None
    if match := _THINK.match(text):
        reasoning, text = match[1], text[match.end() :]
    bodies = _CALL.findall(text)
    content = _CALL.sub("", text).strip()
    if "<tool_call>" in content or "</tool_call>" in content:
        return "a <tool_call> is not closed" if "<tool_call>" in content else "a </tool_call> was never opened"
    calls = []
    for index, body in enumerate(bodies):
        try:
            call = json_to_object(body)
        except ValueError as error:
            return f"the call is {error}"
        if not isinstance(call, dict) or not isinstance(call.get("name"), str) or not call["name"]:
            return "the call has no name"
        arguments = call.get("arguments", {})
        if not isinstance(arguments, dict):
            return "the call's arguments are not a JSON object"
        calls.append(ToolCall(id=f"call_{index}", name=call["name"], arguments=arguments))
    return Message(role="assistant", content=content, reasoning_content=reasoning, tool_calls=tuple(calls))


def _parsed_to_message(parsed: dict[str, Any]) -> Message | str:
    """The dict that `tokenizer.parse_response` gives, as a message."""
    calls = []
    for index, item in enumerate(parsed.get("tool_calls") or []):
        function = item.get("function", item)
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            try:
                arguments = json_to_object(arguments)
            except ValueError as error:
                return f"the call's arguments are {error}"
        try:
            calls.append(ToolCall(id=f"call_{index}", name=function.get("name", ""), arguments=arguments))
        except ValidationError:
            return "the call has no name or its arguments are not a JSON object"
    return Message(
        role="assistant",
        content=parsed.get("content") or "",
        reasoning_content=parsed.get("reasoning_content"),
        tool_calls=tuple(calls),
    )


def read_chat_template(path: str | Path) -> str:
    """The text of a Jinja template file.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: the chat template cannot be read: {error}") from None


def find_base(model: str) -> tuple[str, str | None]:
    """(base, adapter) of a model name: an adapter folder names its own base.

    Raises:
        UserError: if the folder is missing or its adapter names no base.
    """
    missing_model_check(model)
    config = Path(model) / "adapter_config.json"
    if not config.exists():
        return model, None
    base = json.loads(config.read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not base:
        raise UserError(f"{config}: base_model_name_or_path is missing, so the adapter's base is unknown")
    # A folder is stored as it was typed; it may be meant from where the adapter lies, too.
    if not Path(base).exists() and (Path(model) / base).exists():
        base = str(Path(model) / base)
    missing_model_check(base)
    return base, model


def missing_model_check(model: str | Path) -> None:
    """Tell a mistyped folder from a hub id, and an unreachable hub from a missing model, before minutes of retries.

    Raises:
        UserError: if `model` is a folder without a model, looks like a path and is none, or cannot be had from the hub.
    """
    path, name = Path(model), str(model)
    if path.is_dir():
        if not (path / "config.json").exists() and not (path / "adapter_config.json").exists():
            raise UserError(f"{model}: no model here, the folder has neither config.json nor adapter_config.json")
        return
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or (name.count("/") == 1 and path.parent.is_dir()):
        siblings = [str(path.parent / item.name) for item in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"{model}: there is no such model folder.{nearest(str(path), siblings)}")
    import httpx  # noqa: PLC0415 - only for hub ids
    from huggingface_hub import constants, try_to_load_from_cache  # noqa: PLC0415 - as above

    if try_to_load_from_cache(name, "config.json") is not None:
        return
    if constants.HF_HUB_OFFLINE:
        raise UserError(f"{model}: no such folder, not in the hub's cache, and HF_HUB_OFFLINE is set")
    try:
        httpx.head(constants.ENDPOINT, timeout=10)
    except httpx.HTTPError:
        raise UserError(f"{model}: no such folder, not in the hub's cache, and the hub cannot be reached") from None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
