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
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from core.errors import UserError, first_line
from core.json_lines import json_to_object
from data.chats import Chat, Message, PreferencePair, Skip, ToolCall, what_is_said
from data.models import read_tokenizer
from data.records import ToolSpec
from data.rendering.call_forms import CALL_FORMS, HERMES, Form
from data.rendering.call_ids import ANY, ID_FORMS, CallIds
from data.rendering.chat_template import Beginnings, ChatTemplate
from data.rendering.control_tokens import ControlTokens, Encoding, Unrenderable
from data.rendering.replies import AWAITING_A_RESULT, Reply, read_reply
from data.rendering.token_tree import Target, TokenTree, _longest, _TreeBuilder

Candidate = TypeVar("Candidate")
Result = TypeVar("Result")

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TEMPLATE_ADVICE = "choose a template that keeps them with --chat_template_path"
_SWITCHES = ("enable_thinking", "thinking", "preserve_thinking", "truncate_history_thinking", "clear_thinking")
"""What templates call the switches that decide how reasoning is shown."""

_OPENS_REASONING = re.compile(r"<(\w+)>(\s*)\Z")

_TOOLS = tuple(
    ToolSpec.model_validate(
        {
            "function": {
                "name": name,
                "description": description,
                "parameters": {"type": "object", "properties": {key: {"type": "string", "description": "A word."}}},
            }
        }
    )
    for name, description, key in (
        ("probe_tool", "Probe description.", "probe_key"),
        ("probe_other", "Another one.", "other_key"),
    )
)
_OTHER_CALL = ToolCall(id="call00001", name="probe_other", arguments={"other_key": "other value"})
_SYSTEM = Message(role="system", content="Probe system.")
_USER = Message(role="user", content="Probe question 123? 한국어 🙂\n\n  indented")
_ASKS = Message(
    role="assistant",
    tool_calls=(ToolCall(id="call00000", name="probe_tool", arguments={"probe_key": "probe value", "flag": True}),),
)
_RESULT = Message(role="tool", content="Probe result.", tool_call_id="call00000", name="probe_tool")
_ANSWER = Message(role="assistant", content="Probe answer.")
_CALL_PROBE_TOOL = ToolSpec.model_validate(
    {"function": {"name": "probe", "description": "Probe.", "parameters": {"type": "object", "properties": {
        "text": {"type": "string"}, "count": {"type": "integer"}}}}}
)  # fmt: skip
_CALL_PROBES = tuple(
    Message(
        role="assistant",
        tool_calls=(ToolCall(id="call00000", name="probe", arguments={"text": text, "count": 7}),),
    )
    for text in ("7", "a\\nb 'c' \"d\"", " a\n")
)
"""Of what a template writes: a call, then quotes and escapes, then a text with edges."""


def _asked(call_id: str) -> tuple[Message, Message]:
    """The small call and its result, by another id."""
    [call] = _ASKS.tool_calls
    return (
        _ASKS.model_copy(update={"tool_calls": (call.model_copy(update={"id": call_id}),)}),
        _RESULT.model_copy(update={"tool_call_id": call_id}),
    )


def _system(messages: Sequence[Message]) -> range:
    """Indices of the system message: none or one."""
    return range(1 if messages and messages[0].role == "system" else 0)


def _held(messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> set[str]:
    """Which parts a chat holds that some template loses."""
    asks = [message for message in messages if message.tool_calls]
    held = {
        "system": any(messages[k].content.strip() for k in _system(messages)),
        "tools": bool(tools),
        "calls": bool(asks),
        "parallel calls": any(len(message.tool_calls) > 1 for message in asks),
        "results": any(message.role == "tool" for message in messages),
        "content beside calls": any(message.content.strip() for message in asks),
        "reasoning": any((m.reasoning_content or "").strip() for m in messages if not m.tool_calls),
        "reasoning beside calls": any((message.reasoning_content or "").strip() for message in asks),
    }
    return {part for part, is_held in held.items() if is_held}


_OF_A_PROMPT = {"system", "tools", "calls", "parallel calls", "results"}
"""Parts without which a prompt would not tell what happened. What was said or thought beside a call is not one of them."""


def _spellings(words: str) -> Iterator[str]:
    """How templates write a string: as it is, inside JSON, inside a Python literal."""
    yield words
    yield json.dumps(words, ensure_ascii=False)[1:-1]
    yield json.dumps(words)[1:-1]
    yield repr(words)[1:-1]
    escaped = words.replace("\\", "\\\\").replace("'", "\\'")
    yield escaped.replace("\n", "\\n").replace("\r", "\\r")


def _is_shown(words: str, text: str, *, times: int = 1) -> bool:
    words = words.strip()
    if not words or (times == 1 and words in text):
        return True
    return any(text.count(spelling) >= times for spelling in _spellings(words))


def _leaves(value: Any) -> Iterator[str]:
    """Keys, texts and numbers inside arguments, as texts."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, str):
        yield value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield json.dumps(value)


def _cuts(messages: Sequence[Message], end: int) -> list[list[int]]:
    """Shorter and shorter histories of message `end`, as indices of what is kept before it.

    Always kept are the system message and the question that the first kept step belongs to. A result stays with its call.
    """
    cuts, question = [], None
    start = len(_system(messages))
    for keep_from in range(start, end + 1):
        role = messages[keep_from].role if keep_from < len(messages) else "assistant"
        head = [*range(start)] if role == "user" or question is None else [*range(start), question]
        if role != "tool" and len(head) + end - keep_from < end:
            cuts.append([*head, *range(keep_from, end)])
        if role == "user":
            question = keep_from
    return cuts


def _first_that_fits(
    candidates: Sequence[Candidate], attempt: Callable[[Candidate], Result | None], *, start: int = 0
) -> tuple[int, Result] | None:
    """The first candidate (its number, its result) that works, where each later one is easier. By halving."""
    low, high, best = start, len(candidates), None
    step = 1
    while low < high:  # near the start first: the next turn of a chat needs hardly more than the one before
        middle = min(low + step - 1, (low + high) // 2) if best is None else (low + high) // 2
        result = attempt(candidates[middle])
        if result is None:
            low, step = middle + 1, step * 2
        else:
            high, best = middle, (middle, result)
    return best


@dataclass(frozen=True)
class _Turn:
    """Ids of one turn.

    `shared` is how many ids of the context are those of what was encoded before it, `agreed` how many ids of context and
    target are those of both in one pass: all, or fewer where the target had to be encoded apart.
    """

    context: list[int]
    target: list[int]
    shared: int
    agreed: int
    lost: set[str]
    """What its prompt does not show."""


@dataclass(frozen=True)
class _Cut:
    """A turn with its oldest turns cut; `number` says which of the possible cuts it is."""

    context: list[int]
    target: list[int]
    number: int


@dataclass(frozen=True)
class _Form:
    """How this template wants its messages; found out by trying."""

    json_arguments: bool = False
    """Arguments as JSON text instead of a dict (DeepSeek)."""
    content_parts: bool = False
    """Content as [{"type": "text", "text": ...}] instead of a string."""

    def apply(self, message: dict[str, Any]) -> dict[str, Any]:
        if self.json_arguments and "tool_calls" in message:
            calls = []
            for call in message["tool_calls"]:
                arguments = json.dumps(call["function"]["arguments"], ensure_ascii=False)
                calls.append({**call, "function": {**call["function"], "arguments": arguments}})
            message = {**message, "tool_calls": calls}
        if self.content_parts:
            message = {**message, "content": self.content(message["content"])}
        return message

    def content(self, text: str) -> Any:
        """Content of a message as the template reads it."""
        return [{"type": "text", "text": text}] if self.content_parts else text


@dataclass(frozen=True)
class _Opened:
    """A chat as the template reads it, typed control strings marked, with what was rendered of it so far."""

    messages: Sequence[Message]
    marked: list[dict[str, Any]]
    specs: list[dict[str, Any]]
    first: int
    beginnings: Beginnings
    encoding: Encoding


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
        known = dict.fromkeys([*stop_ids, tokenizer.eos_token_id])
        self.stop_ids: tuple[int, ...] = tuple(token_id for token_id in known if token_id is not None)
        if not self.stop_ids:
            raise UserError(f"{name}: neither generation_config.json nor the tokenizer names a stop token")
        self._control = ControlTokens(tokenizer, tokenizer.chat_template)
        self._stop_texts = {
            text
            for text, token_id in zip(self._control.texts, self._control.ids, strict=True)
            if token_id in self.stop_ids
        }
        try:
            self.template = ChatTemplate(tokenizer)
        except Unrenderable as error:
            raise UserError(f"{name}: {error}") from None
        self._switches = [switch for switch in _SWITCHES if switch in self.template.source]
        self.call_ids: CallIds = ANY
        self._form = _Form()
        self._form = self._find_form()
        self.call_ids = self._find_call_ids()
        self._prove_ids()
        self._opening = _OPENS_REASONING.search(self._try(self.template_messages([_USER]), [], generate=True) or "")
        self.next_role = {calls: self._find_next_role(calls=calls) for calls in (False, True)}
        self.faults = self._find_faults()

    @classmethod
    def from_pretrained(cls, model: str | Path, *, chat_template_path: str | Path | None = None) -> Renderer:
        """The renderer of a model folder, an adapter folder or a hub id, without importing torch.

        An adapter folder holds the tokenizer and template it was trained with; they win over the base's, which still says
        what ends generation.

        Raises:
            UserError: if the model or the template file is missing, or the tokenizer cannot be used.
        """
        tokenizer, stop_ids = read_tokenizer(str(model))
        if chat_template_path is not None:
            tokenizer.chat_template = read_chat_template(chat_template_path)
        return cls(tokenizer, stop_ids=stop_ids)

    # ---------------------------------------------------------------- prompts

    def template_messages(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """The messages in the form that this template reads, for `apply_chat_template`; calls have the ids it demands."""
        return [self._form.apply(message.to_template()) for message in self._with_ids(messages)]

    def _with_ids(self, messages: Sequence[Message]) -> Sequence[Message]:
        return messages if self.call_ids is ANY else self.call_ids.apply(messages)

    def prompt_ids(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> list[int]:
        """What the model is given before it speaks: the template's ids, its generation prompt included.

        Raises:
            Unrenderable: if the template refuses the messages, or would silently lose what they hold.
        """
        self._refuse_lost_parts(_OF_A_PROMPT & _held(messages, tools))
        opened = self._open(messages, tools)
        return opened.encoding.extend_to(opened.beginnings.text(len(messages), generate=True)).ids

    def _open(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> _Opened:
        plain = [message.to_template() for message in self._with_ids(messages)]
        specs = [tool.model_dump() for tool in tools]
        everything = json.dumps([plain, specs], ensure_ascii=False)
        first = self._control.first_free(everything)
        # JSON text is what is searched, so control strings with quotes or backslashes are looked for in any case.
        if self._control.may_be_typed(everything):
            plain, specs = self._control.mark(plain, first), self._control.mark(specs, first)
        return self._opened(messages, [self._form.apply(message) for message in plain], specs, first)

    def _opened(
        self, messages: Sequence[Message], marked: list[dict[str, Any]], specs: list[dict[str, Any]], first: int
    ) -> _Opened:
        beginnings = self.template.beginnings(marked, specs)
        return _Opened(messages, marked, specs, first, beginnings, Encoding(self._control, first))

    # ---------------------------------------------------------------- trees

    def chat_to_tree(self, chat: Chat, *, max_tokens: int | None = None) -> TokenTree | Skip:
        """The tree of all assistant turns with a weight above 0, or a Skip with the reason.

        With `max_tokens`, contexts that do not fit lose their oldest turns (never system, tools or the question that the
        turn belongs to), and a target that does not fit even so is dropped; both are counted on the tree.
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

        def shortened(kept: list[int]) -> TokenTree | None:
            tree = self._fork(pair, tuple(pair.prompt[k] for k in kept), first_turn=len(pair.prompt))
            return tree if isinstance(tree, TokenTree) and _longest(tree) <= max_tokens else None

        found = _first_that_fits(_cuts(pair.prompt, len(pair.prompt)), shortened)
        if found is None:
            return Skip("a side does not fit into max_length")
        return replace(found[1], cut_tokens=_longest(full) - _longest(found[1]))

    def _fork(
        self, pair: PreferencePair, prompt: tuple[Message, ...], *, first_turn: int | None = None
    ) -> TokenTree | Skip:
        """The tree of a pair with `prompt` in the place of its own; `first_turn` is the number of a side's first turn."""
        sides = []
        for label, side in (("chosen", pair.chosen), ("rejected", pair.rejected)):
            trained = [len(prompt) + t for t, message in enumerate(side) if message.loss_weight > 0]
            if not trained:
                return Skip(f"{label} has no assistant turn with a weight above 0")
            sides.append((label, (*prompt, *side), trained))
        tree = self._tree(sides, pair.tools, pair.id, None)
        if first_turn is None or isinstance(tree, Skip):
            return tree
        shift = first_turn - len(prompt)
        return replace(tree, targets=tuple(replace(target, turn=target.turn + shift) for target in tree.targets))

    def _tree(
        self,
        sides: Sequence[tuple[str, Sequence[Message], list[int]]],
        tools: Sequence[ToolSpec],
        name: str,
        max_tokens: int | None,
    ) -> TokenTree | Skip:
        builder = _TreeBuilder()
        targets: list[Target] = []
        lost: set[str] = set()
        cut_tokens = dropped = 0
        try:
            for label, messages, trained in sides:
                lost |= self._lost_parts(messages, trained, tools)
                opened = self._open(messages, tools)
                agreed = least_cut = 0
                for t in trained:
                    turn = self._turn(opened, t)
                    context, target = turn.context, turn.target
                    lost |= turn.lost
                    same = min(turn.shared, agreed)
                    agreed = turn.agreed
                    if max_tokens is not None and len(context) + len(target) > max_tokens:
                        same = agreed = 0
                        shorter = self._cut(opened, t, max_tokens, least_cut)
                        if shorter is None:
                            dropped += 1
                            continue
                        cut_tokens += len(context) - len(shorter.context)
                        context, target, least_cut = shorter.context, shorter.target, shorter.number
                    builder.extend(context[same:], after=same)
                    nodes = builder.extend(target, after=len(context))
                    targets.append(Target(label, t, nodes, messages[t].loss_weight))
        except Unrenderable as error:
            return Skip(str(error))
        if not targets:
            return Skip("no target fits into max_length")
        ids, parents = tuple(builder.ids), tuple(builder.parents)
        return TokenTree(ids, parents, tuple(targets), name, cut_tokens, dropped, tuple(sorted(lost)))

    def _turn(self, opened: _Opened, t: int) -> _Turn:
        """Context and target of message t.

        Raises:
            Unrenderable: if the template does not show the turn as something the model can write after its generation
                prompt, loses a part of it, or gives it no known stop token.
        """
        before = opened.beginnings.text(t, generate=True)
        lost = self._lost_context(opened, t, before)
        completion = self._up_to_stop(opened, t, self._completion(opened, t, before))
        self._refuse_lost_words(opened.messages[t], self._control.unmark(completion, opened.first))
        encoding = opened.encoding.extend_to(before)
        context, shared, tail = list(encoding.ids), encoding.shared, encoding.tail_from()
        # A server encodes the prompt alone. Where one pass over both gives the same prompt, it gives the usual target too;
        # where the edge would merge, the target is encoded apart, as generation would continue.
        whole = encoding.extend_to(before + completion).ids
        if whole[tail : len(context)] == context[tail:]:
            return _Turn(context, whole[len(context) :], shared, len(whole), lost)
        decode = self._control.shadow(opened.first).decode
        text = decode(whole[tail:], skip_special_tokens=False)
        for target in self._control.continuations(completion, opened.first):
            if decode(context[tail:] + target, skip_special_tokens=False) == text:
                return _Turn(context, target, shared, tail, lost)
        raise Unrenderable("the tokenizer cannot write the turn after its generation prompt")

    def _completion(self, opened: _Opened, t: int, before: str) -> str:
        """Marked text that the model has to write after `before`, and what the template adds after it.

        Raises:
            Unrenderable: if the template does not tell.
        """
        after = opened.beginnings.text(t + 1, generate=False)
        if after.startswith(before):
            return after[len(before) :]
        message = opened.marked[t]
        ways: tuple[Callable[[], str | None], ...] = (  # tried in turn: each renders the chat again
            lambda: self._with_empty_reasoning(opened, t, before),
            lambda: self._with_switches(opened, t, before),
            lambda: self._after_opened_reasoning(message, before, after),
            lambda: self._after_shorter_history(opened, t, before, after),
        )
        for way in ways:
            if (completion := way()) is not None:
                return completion
        if message.get("reasoning_content") and before.rstrip().endswith(("</think>", "/think>")):
            raise Unrenderable(f"the template's generation prompt leaves no room for reasoning; {TEMPLATE_ADVICE}")
        raise Unrenderable("the template shows a finished turn differently from its generation prompt")

    def _with_empty_reasoning(self, opened: _Opened, t: int, before: str) -> str | None:
        """The prompt opens reasoning, a turn without any is shown in another way: what closes it at once is trained.

        The template writes it itself, around a placeholder that is then taken out.
        """
        if (opened.marked[t].get("reasoning_content") or "").strip():
            return None
        placeholder = self._control.placeholder(opened.first)
        message = {**opened.marked[t], "reasoning_content": placeholder}
        try:
            after = opened.beginnings.text_with(t + 1, message)
        except Unrenderable:
            return None
        if not after.startswith(before) or after.count(placeholder, len(before)) != 1:
            return None
        return after[len(before) :].replace(placeholder, "")

    def _with_switches(self, opened: _Opened, t: int, before: str) -> str | None:
        """The finished turn as a switch of the template shows it; the prompt stays the one that is served by default."""
        for switch in self._switches:
            for value in (True, False):
                after = self._try(opened.marked[: t + 1], opened.specs, **{switch: value})
                if after is not None and after.startswith(before):
                    return after[len(before) :]
        return None

    def _after_opened_reasoning(self, message: dict[str, Any], before: str, after: str) -> str | None:
        """DeepSeek's prompt ends with `<think>`, and no finished turn shows how that was closed.

        The target goes on inside: the reasoning, then the closing tag with the line breaks of R1's format, then the turn as
        the template shows it. A turn without reasoning closes it at once.
        """
        opening = _OPENS_REASONING.search(before)
        if opening is None or not after.startswith(before[: opening.start()]):
            return None
        closing = f"</{opening[1]}>"
        rest = after[opening.start() :]
        if closing not in self.template.source or rest.startswith(opening[0].strip()):
            return None
        reasoning = (message.get("reasoning_content") or "").strip()
        if reasoning and reasoning in rest:
            return None
        return f"{reasoning}{opening[2]}{closing}{opening[2] * 2}{rest}"

    def _after_shorter_history(self, opened: _Opened, t: int, before: str, after: str) -> str | None:
        """The finished turn changes what is shown of its history: gpt-oss drops the analysis before a final answer, Mistral
        Nemo the system turn that it writes beside a last question.

        The completion is then read off the same turn after the bare question, and has to be the end of this chat as well.
        """
        unfinished = opened.beginnings.text(t, generate=False)
        header = before[len(unfinished) :] if before.startswith(unfinished) else ""
        question = max((k for k in range(t) if opened.messages[k].role == "user"), default=None)
        if question is None:
            return None
        for kept in dict.fromkeys(((*_system(opened.messages), question), (question,))):
            history = [opened.marked[k] for k in kept]
            shorter = self._try(history, opened.specs, generate=True)
            finished = self._try([*history, opened.marked[t]], opened.specs)
            if shorter is None or finished is None or not finished.startswith(shorter):
                continue
            completion = finished[len(shorter) :]
            if completion.strip() and after.endswith(header + completion):
                return completion
        return None

    def _try(
        self,
        messages: Sequence[dict[str, Any]],
        specs: list[dict[str, Any]],
        *,
        generate: bool = False,
        **switches: Any,
    ) -> str | None:
        try:
            return self.template.render(messages, specs, generate=generate, **switches)
        except Unrenderable:
            return None

    def _up_to_stop(self, opened: _Opened, t: int, completion: str) -> str:
        """The completion up to and with its stop token.

        Raises:
            Unrenderable: if there is none, or the turn goes on after it.
        """
        for match in self._control.find(completion):
            if match[0] in self._stop_texts:
                if self._control.without_control(completion[match.end() :]).strip():
                    raise Unrenderable("the template puts a stop token of generation_config inside the turn")
                return completion[: match.end()]
        next_role = self.next_role[bool(opened.messages[t].tool_calls)]
        if next_role is None:
            raise Unrenderable("the template ends the turn with no stop token of generation_config")
        return completion + next_role

    def _cut(self, opened: _Opened, t: int, max_tokens: int, least: int) -> _Cut | None:
        """The turn with as few of its oldest turns cut as makes it fit, or None; `least` were cut for the turn before."""

        def shortened(kept: list[int]) -> _Turn | None:
            kept = [*kept, t]
            part = self._opened(
                [opened.messages[k] for k in kept], [opened.marked[k] for k in kept], opened.specs, opened.first
            )
            try:
                turn = self._turn(part, len(kept) - 1)
            except Unrenderable:
                return None
            return turn if len(turn.context) + len(turn.target) <= max_tokens else None

        found = _first_that_fits(_cuts(opened.messages, t), shortened, start=least)
        return None if found is None else _Cut(found[1].context, found[1].target, found[0])

    # ---------------------------------------------------------------- what a template must not lose

    def _refuse_lost_parts(self, held: set[str]) -> None:
        for part, reason in self.faults.items():
            if part in held:
                raise Unrenderable(reason)

    def _lost_parts(self, messages: Sequence[Message], trained: Sequence[int], tools: Sequence[ToolSpec]) -> set[str]:
        """Parts that the template loses of turns which are only context, where a served prompt loses them just so.

        Raises:
            Unrenderable: if a trained turn holds a part that the template loses, or a prompt one that it must show.
        """
        if not self.faults:
            return set()
        for t in trained:
            self._refuse_lost_parts(_held(messages[t : t + 1]) | (_OF_A_PROMPT & _held(messages[:t], tools)))
        return (_held(messages[: trained[-1]]) & self.faults.keys()) - _OF_A_PROMPT

    def _refuse_lost_words(self, message: Message, completion: str) -> None:
        """`completion` is unmarked text."""
        if message.content.strip() not in completion:
            raise Unrenderable(f"the template loses an assistant's content; {TEMPLATE_ADVICE}")
        if (message.reasoning_content or "").strip() not in completion:
            raise Unrenderable(f"the template loses an assistant's reasoning; {TEMPLATE_ADVICE}")
        names = Counter(call.name for call in message.tool_calls)
        if any(not _is_shown(name, completion, times=times) for name, times in names.items()):
            raise Unrenderable(f"the template loses a tool call; {TEMPLATE_ADVICE}")
        for call in message.tool_calls:
            if not all(_is_shown(leaf, completion) for leaf in _leaves(call.arguments)):
                raise Unrenderable(f"the template loses a call's arguments; {TEMPLATE_ADVICE}")

    def _lost_context(self, opened: _Opened, t: int, before: str) -> set[str]:
        """What the prompt of turn t lacks, as a served one does: a system turn that the template shows in other prompts only.

        Raises:
            Unrenderable: if it lacks a result that this turn is the first to see.
        """
        lost = set()
        text = self._control.unmark(before, opened.first)
        run = t
        while run > 0 and opened.messages[run - 1].role == "tool":
            run -= 1
        for k, part in [(k, "system") for k in _system(opened.messages)] + [(k, "results") for k in range(run, t)]:
            if _is_shown(opened.messages[k].content.strip(), text):
                continue
            # Not word for word. It may be shown in another spelling; a placeholder in its place tells.
            placeholder = self._control.placeholder(opened.first)
            messages = [
                self._form.apply({**m, "content": placeholder}) if at == k else m
                for at, m in enumerate(opened.marked[:t])
            ]
            if placeholder in (self._try(messages, opened.specs, generate=True) or ""):
                continue
            if part == "results":
                raise Unrenderable(f"the template loses {part}; {TEMPLATE_ADVICE}")
            lost.add(part)
        return lost

    def _find_form(self) -> _Form:
        """The first form in which most of a small chat can be shown."""
        history = [_USER, _ASKS, _RESULT]
        best, best_score = _Form(), -1
        for form in (_Form(), _Form(json_arguments=True), _Form(content_parts=True), _Form(True, True)):
            user = self._try([form.apply(_USER.to_template())], [], generate=True) or ""
            call = self._try([form.apply(message.to_template()) for message in history], [], generate=True) or ""
            shows_call = "probe value" in call and str(_ASKS.tool_calls[0].arguments) not in call
            score = 2 * ("Probe question" in user) + shows_call
            if score > best_score:
                best, best_score = form, score
        return best

    def _find_call_ids(self) -> CallIds:
        """The first form of ids with which a call and its result are shown, whichever ids the source wrote."""
        for form in ID_FORMS:
            if all(
                self._shows_call(form.apply([_USER, *_asked(name)])) for name in ("call_0", f"chatcmpl-tool-{0:032}")
            ):
                return form
        return ANY

    def _shows_call(self, messages: Sequence[Message]) -> bool:
        shown = [self._form.apply(message.to_template()) for message in messages]
        call, result = self._try(shown[:-1], []), self._try(shown, [], generate=True)
        return call is not None and result is not None and "probe_tool" in call and "probe value" in call

    def _prove_ids(self) -> None:
        """Compare with `apply_chat_template` on ordinary text.

        Raises:
            UserError: if the ids differ, which would break promise 1, or not even one question can be shown.
        """
        name = self.tokenizer.name_or_path
        shown = 0
        for messages in ([_USER], [_SYSTEM, _USER], [_USER, _ANSWER, _USER], [_SYSTEM, _USER, _ASKS, _RESULT]):
            try:
                ours = self._open(messages, ())
                text = ours.beginnings.text(len(messages), generate=True)
            except Unrenderable as error:
                if messages == [_USER]:
                    raise UserError(f"{name}: not even one question can be shown: {error}") from None
                continue
            theirs = self.tokenizer.apply_chat_template(
                self.template_messages(messages), add_generation_prompt=True, tokenize=True, return_dict=True
            )["input_ids"]
            shown += 1
            if ours.encoding.extend_to(text).ids != list(theirs) or not self._control.follows():
                raise UserError(
                    f"{name}: this tokenizer cannot be followed exactly (its ids change when control tokens are renamed); "
                    "please report it with the tokenizer's name"
                )

    def _find_next_role(self, *, calls: bool) -> str | None:
        """Where a finished turn has no stop token of its own, as GLM's, the next role's token ends it, if it is one."""
        turn, follow = (_ASKS, _RESULT) if calls else (_ANSWER, _USER)
        messages = self.template_messages([_USER, turn, follow])
        finished, followed = self._try(messages[:2], []), self._try(messages, [])
        if finished is None or followed is None or not followed.startswith(finished):
            return None
        match = next(self._control.find(followed[len(finished) :]), None)
        return match[0] if match is not None and match.start() == 0 and match[0] in self._stop_texts else None

    def _find_faults(self) -> dict[str, str]:
        """What this template loses, found by rendering words that occur nowhere else."""

        def shows(messages: list[Message], words: list[str], tools: Sequence[ToolSpec] = ()) -> str | None:
            try:
                opened = self._open(messages, tools)
                text = opened.beginnings.text(len(messages), generate=True)
            except Unrenderable as error:
                return str(error)
            missing = [word for word in words if not _is_shown(word, text)]
            return f"it does not show {missing[0]!r}" if missing else None

        def trains(message: Message) -> str | None:
            try:
                opened = self._open([_USER, message], ())
                completion = self._completion(opened, 1, opened.beginnings.text(1, generate=True))
                self._refuse_lost_words(message, self._control.unmark(completion, opened.first))
            except Unrenderable as error:
                return str(error).partition(";")[0]
            return None

        tool_words = ["probe_tool", "Probe description", "probe_key", "probe_other"]
        both = Message(role="assistant", tool_calls=(*_ASKS.tool_calls, _OTHER_CALL))
        other_result = Message(role="tool", content="Another result.", tool_call_id=_OTHER_CALL.id, name="probe_other")
        checks: dict[str, Callable[[], str | None]] = {
            "system": lambda: shows([_SYSTEM, _USER], ["Probe system."]) or shows([_SYSTEM, _USER], ["Probe system."], _TOOLS),
            "tools": lambda: shows([_USER], tool_words, _TOOLS),
            "calls": lambda: shows([_USER, _ASKS, _RESULT], ["probe_tool", "probe value"]),
            "parallel calls": lambda: shows([_USER, both, _RESULT, other_result], ["probe value", "other value"]),
            "results": lambda: shows([_USER, _ASKS, _RESULT], ["Probe result."]),
            "content beside calls": lambda: trains(_ASKS.model_copy(update={"content": "Probe words."})),
            "reasoning": lambda: trains(_ANSWER.model_copy(update={"reasoning_content": "Probe thought."})),
            "reasoning beside calls": lambda: trains(_ASKS.model_copy(update={"reasoning_content": "Probe thought."})),
        }  # fmt: skip
        return {
            part: f"the template loses {part} ({why}); {TEMPLATE_ADVICE}"
            for part, check in checks.items()
            if (why := check())
        }

    # ---------------------------------------------------------------- and back

    @cached_property
    def call_form(self) -> Form | None:
        """The form in which this template writes calls: the first of the table that reads back what it makes of some.

        Null where none does, or the template shows no calls. Trying beats comparing templates by name, because a template is
        often changed a little while its form of calls stays.
        """
        written = []
        for probe in _CALL_PROBES:
            tree = self.chat_to_tree(
                Chat(messages=(_USER, probe), tools=(_CALL_PROBE_TOOL,), id="probe", source="probe")
            )
            if isinstance(tree, TokenTree):
                [(ids, weights)] = tree.rows()
                written.append((ids[weights.index(1.0) :], probe))
        best, most = None, 0
        for form in CALL_FORMS:
            reads = 0
            for ids, probe in written:
                said, other = self._read(ids, form, (_CALL_PROBE_TOOL,))
                if isinstance(said, str) or other or what_is_said([said]) != what_is_said([probe]):
                    break
                reads += 1
            if reads > most:  # the later probes hold what is rare; a form that reads the first one is the template's
                best, most = form, reads
        return best

    def completion_to_message(
        self, ids: Sequence[int], *, prompt: Sequence[int] = (), tools: Sequence[ToolSpec] = ()
    ) -> Message | str:
        """What a model emitted after `prompt`, as a message; or one line that says why it cannot be read."""
        return self.read_completion(ids, prompt=prompt, tools=tools).said

    def read_completion(
        self, ids: Sequence[int], *, prompt: Sequence[int] = (), tools: Sequence[ToolSpec] = ()
    ) -> Reply:
        """What a model emitted after `prompt`, and in which form, if it was not the template's own.

        Where no form of data/rendering/replies.py is the template's own, the response template is used that its
        tokenizer may carry.

        Args:
            tools: what can be called. They tell the types of arguments where a form has only texts (Qwen3.5, GLM); forms in
                JSON say the types themselves, and are taken at their word.
        """
        response_template = getattr(self.tokenizer, "response_template", None)
        if self.call_form is None and response_template:
            said = self._parse_response(response_template, ids, prompt, tools)
            if isinstance(said, Message) and said.tool_calls:
                return Reply(said)
        return self._read(ids, self.call_form or HERMES, tools)

    def _read(self, ids: Sequence[int], own: Form, tools: Sequence[ToolSpec]) -> Reply:
        kept = list(ids)
        while kept and kept[-1] in self.stop_ids:
            kept.pop()
        stops = self._control.written(ids[len(kept) :])
        awaits_result = any(
            stop in AWAITING_A_RESULT or stop == self.next_role[True] != self.next_role[False] for stop in stops
        )
        opened = self._opening[0] if self._opening else ""
        # A control token that the model typed letter by letter is text, as it is in training.
        text, typed = self._control.to_marked(kept)
        known = frozenset(token.content for token in self.tokenizer.added_tokens_decoder.values())
        reply = read_reply(
            text,
            own=own,
            tools=tools,
            control=self._control.special,
            awaits_result=awaits_result,
            opened=opened,
            known=known,
        )
        if typed is None:
            return reply
        if not isinstance(reply.said, Message) or not reply.said.tool_calls:
            loose = read_reply(
                self._control.unmark(text, typed), own=None, tools=tools, awaits_result=awaits_result, opened=opened
            )
            if isinstance(loose.said, Message) and loose.said.tool_calls:
                return loose
        return Reply(_unmarked(reply.said, lambda value: self._control.unmark(value, typed)), reply.form)

    def _parse_response(
        self, template: dict[str, Any], ids: Sequence[int], prompt: Sequence[int], tools: Sequence[ToolSpec]
    ) -> Message | str:
        calls = template.get("fields", {}).get("tool_calls", {})
        specs = None if calls.get("content") == "json" else [tool.model_dump() for tool in tools]
        try:
            parsed = self.tokenizer.parse_response(list(ids), prefix=list(prompt), tools=specs) or {}
            return _parsed_to_message(parsed)
        except Exception as error:  # whatever a response template raises, the text was not readable by it
            return f"unreadable turn: {first_line(error)}"


def _unmarked(value: Any, unmark: Callable[[str], str]) -> Any:
    """A message, or any part of it, with the marks taken out of all its texts."""
    if isinstance(value, Message):
        return Message.model_validate(_unmarked(value.model_dump(), unmark))
    if isinstance(value, str):
        return unmark(value)
    if isinstance(value, dict):
        return {unmark(key): _unmarked(item, unmark) for key, item in value.items()}
    return [_unmarked(item, unmark) for item in value] if isinstance(value, list | tuple) else value


def _parsed_to_message(parsed: dict[str, Any]) -> Message | str:
    """The dict that `tokenizer.parse_response` gives, as a message."""
    calls = []
    for index, item in enumerate(parsed.get("tool_calls") or []):
        function = item.get("function", item)
        if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
            return "the call has no name"
        arguments = function.get("arguments") or {}
        try:  # strict, because the parser takes NaN and a record does not
            arguments = json_to_object(arguments if isinstance(arguments, str) else json.dumps(arguments))
        except ValueError as error:
            return f"the call's arguments are {error}"
        if not isinstance(arguments, dict):
            return "the call's arguments are not a JSON object"
        calls.append(ToolCall(id=f"call_{index}", name=function["name"], arguments=arguments))
    return Message(
        role="assistant",
        content=parsed.get("content") or "",
        reasoning_content=parsed.get("reasoning_content") or parsed.get("thinking") or None,
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
