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

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from core.errors import UserError
from data.chats import Chat, Message, PreferencePair, Skip
from data.models import read_tokenizer
from data.records import ToolSpec
from data.rendering.call_forms.form import Form
from data.rendering.call_ids import CallIds
from data.rendering.chat_template import ChatTemplate, read_chat_template
from data.rendering.control_tokens import ControlTokens, Unrenderable
from data.rendering.habits import QUESTION, find_habits, prove_ids
from data.rendering.lost_parts import (
    OF_A_PROMPT,
    held_parts,
    lost_parts,
    refuse_lost_parts,
    refuse_lost_words,
    system_places,
)
from data.rendering.replies import PROBE_CALLS, PROBE_TOOL, Reply, ReplyReader
from data.rendering.shown_chat import ShownChat
from data.rendering.token_tree import Target, TokenTree, TreeBuilder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Candidate = TypeVar("Candidate")
Made = TypeVar("Made")


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
        self._stop_texts = set(self._control.written(self.stop_ids))
        try:
            self.template = ChatTemplate(tokenizer)
        except Unrenderable as error:
            raise UserError(f"{name}: {error}") from None
        self.habits = find_habits(self.template, self._control, self._stop_texts)
        prove_ids(tokenizer, self.template, self._control, self.habits.form)

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

    @property
    def faults(self) -> dict[str, str]:
        """What the template loses, by part, each with the reason why a chat with such a part is refused."""
        return self.habits.faults

    @property
    def call_ids(self) -> CallIds:
        """The form of call ids that the template demands."""
        return self.habits.form.call_ids

    # ---------------------------------------------------------------- a chat or a pair becomes a tree

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
        if isinstance(full, Skip) or max_tokens is None or full.longest() <= max_tokens:
            return full

        def shortened(kept: list[int]) -> TokenTree | None:
            tree = self._fork(pair, tuple(pair.prompt[k] for k in kept), first_turn=len(pair.prompt))
            return tree if isinstance(tree, TokenTree) and tree.longest() <= max_tokens else None

        found = _first_that_fits(_cuts(pair.prompt, len(pair.prompt)), shortened)
        if found is None:
            return Skip("a side does not fit into max_length")
        return replace(found[1], cut_tokens=full.longest() - found[1].longest())

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
        """All trained turns of each side (its label, its messages, the numbers of its trained ones) in one tree."""
        builder = TreeBuilder()
        targets: list[Target] = []
        lost: set[str] = set()
        cut_tokens = dropped = 0
        try:
            for label, messages, trained in sides:
                lost |= lost_parts(messages, trained, tools, self.faults)
                shown = self._shown(messages, tools)
                agreed = least_cut = 0
                for t in trained:
                    turn = self._turn(shown, t)
                    lost |= turn.lost
                    same = min(turn.shared, agreed)  # so many ids stand on the builder's path already
                    agreed = turn.agreed
                    if max_tokens is not None and len(turn.context) + len(turn.target) > max_tokens:
                        same = agreed = 0
                        found = self._cut(shown, t, max_tokens, least_cut)
                        if found is None:
                            dropped += 1
                            continue
                        least_cut, shorter = found
                        cut_tokens += len(turn.context) - len(shorter.context)
                        turn = shorter
                    builder.extend(turn.context[same:], after=same)
                    nodes = builder.extend(turn.target, after=len(turn.context))
                    targets.append(Target(label, t, nodes, messages[t].loss_weight))
        except Unrenderable as error:
            return Skip(str(error))
        if not targets:
            return Skip("no target fits into max_length")
        ids, parents = tuple(builder.ids), tuple(builder.parents)
        return TokenTree(ids, parents, tuple(targets), name, cut_tokens, dropped, tuple(sorted(lost)))

    def _shown(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> ShownChat:
        return ShownChat.of(self.template, self._control, self.habits.form, messages, tools)

    def _turn(self, shown: ShownChat, t: int) -> _Turn:
        """Context and target of message t.

        Raises:
            Unrenderable: if the template does not show the turn as something the model can write after its generation
                prompt, loses a part of it, or gives it no known stop token.
        """
        prompt = shown.prompt(t)
        lost = shown.lost_from_prompt(t, prompt)
        completion = self._up_to_stop(shown.completion(t, prompt), has_calls=bool(shown.messages[t].tool_calls))
        refuse_lost_words(shown.messages[t], shown.unmark(completion))
        encoding = shown.encoding.extend_to(prompt)
        context, shared, tail = list(encoding.ids), encoding.shared, encoding.tail_from()
        # A server encodes the prompt alone. Where one pass over both gives the same prompt, it gives the usual target too;
        # where the edge would merge, the target is encoded apart, as generation would continue.
        whole = encoding.extend_to(prompt + completion).ids
        if whole[tail : len(context)] == context[tail:]:
            return _Turn(context, whole[len(context) :], shared, len(whole), lost)
        decode = self._control.shadow(shown.first).decode
        text = decode(whole[tail:], skip_special_tokens=False)
        for target in self._control.continuations(completion, shown.first):
            if decode(context[tail:] + target, skip_special_tokens=False) == text:
                return _Turn(context, target, shared, tail, lost)
        raise Unrenderable("the tokenizer cannot write the turn after its generation prompt")

    def _up_to_stop(self, completion: str, *, has_calls: bool) -> str:
        """The completion up to and with its stop token.

        Raises:
            Unrenderable: if there is none, or the turn goes on after it.
        """
        for match in self._control.find(completion):
            if match[0] in self._stop_texts:
                if self._control.without_control(completion[match.end() :]).strip():
                    raise Unrenderable("the template puts a stop token of generation_config inside the turn")
                return completion[: match.end()]
        next_role = self.habits.next_role[has_calls]
        if next_role is None:
            raise Unrenderable("the template ends the turn with no stop token of generation_config")
        return completion + next_role

    def _cut(self, shown: ShownChat, t: int, max_tokens: int, least: int) -> tuple[int, _Turn] | None:
        """The turn with as few of its oldest turns cut as makes it fit, and the number of that cut; `least` is the number of
        the turn before."""

        def shortened(kept: list[int]) -> _Turn | None:
            try:
                turn = self._turn(shown.of_kept([*kept, t]), len(kept))
            except Unrenderable:
                return None
            return turn if len(turn.context) + len(turn.target) <= max_tokens else None

        return _first_that_fits(_cuts(shown.messages, t), shortened, start=least)

    # ---------------------------------------------------------------- what a served model is given

    def prompt_ids(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> list[int]:
        """What the model is given before it speaks: the template's ids, its generation prompt included.

        Raises:
            Unrenderable: if the template refuses the messages, or would silently lose what they hold.
        """
        refuse_lost_parts(OF_A_PROMPT & held_parts(messages, tools), self.faults)
        shown = self._shown(messages, tools)
        return shown.encoding.extend_to(shown.prompt()).ids

    def template_messages(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """The messages in the form that this template reads, for `apply_chat_template`; calls have the ids it demands."""
        return self.habits.form.to_template(messages)

    # ---------------------------------------------------------------- and back

    @cached_property
    def replies(self) -> ReplyReader:
        """Reads what the model writes; made when it is first asked, from what the template makes of some calls."""
        written = []
        for call in PROBE_CALLS:
            tree = self.chat_to_tree(Chat(messages=(QUESTION, call), tools=(PROBE_TOOL,), id="probe", source="probe"))
            if isinstance(tree, TokenTree):
                [(ids, weights)] = tree.rows()
                written.append((ids[weights.index(1.0) :], call))
        return ReplyReader(self.tokenizer, self._control, self.habits, self.stop_ids, written)

    @property
    def call_form(self) -> Form | None:
        """The form in which this template writes calls; null where none of the table is, or it shows no calls."""
        return self.replies.call_form

    def completion_to_message(
        self, ids: Sequence[int], *, prompt: Sequence[int] = (), tools: Sequence[ToolSpec] = ()
    ) -> Message | str:
        """What a model emitted after `prompt`, as a message; or one line that says why it cannot be read."""
        return self.read_completion(ids, prompt=prompt, tools=tools).said

    def read_completion(
        self, ids: Sequence[int], *, prompt: Sequence[int] = (), tools: Sequence[ToolSpec] = ()
    ) -> Reply:
        """What a model emitted after `prompt`, and in which form, if it was not the template's own.

        Args:
            tools: what can be called. They tell the types of arguments where a form has only texts (Qwen3.5, GLM); forms in
                JSON say the types themselves, and are taken at their word.
        """
        return self.replies.read(ids, prompt=prompt, tools=tools)


def _cuts(messages: Sequence[Message], end: int) -> list[list[int]]:
    """Shorter and shorter histories of message `end`, as indices of what is kept before it.

    Always kept are the system message and the question that the first kept step belongs to. A result stays with its call.
    """
    cuts, question = [], None
    start = len(system_places(messages))
    for keep_from in range(start, end + 1):
        role = messages[keep_from].role if keep_from < len(messages) else "assistant"
        head = [*range(start)] if role == "user" or question is None else [*range(start), question]
        if role != "tool" and len(head) + end - keep_from < end:
            cuts.append([*head, *range(keep_from, end)])
        if role == "user":
            question = keep_from
    return cuts


def _first_that_fits(
    candidates: Sequence[Candidate], attempt: Callable[[Candidate], Made | None], *, start: int = 0
) -> tuple[int, Made] | None:
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
