"""A chat as the model's own template shows it: the prompt before each turn, and what the model has to write after it.

All texts here are marked (data/rendering/control_tokens.py): every unbroken control string is the template's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from data.chats import Message
from data.records import ToolSpec
from data.rendering.call_ids import ANY, CallIds
from data.rendering.chat_template import Beginnings, ChatTemplate
from data.rendering.control_tokens import ControlTokens, Encoding, Unrenderable
from data.rendering.lost_parts import TEMPLATE_ADVICE, is_shown, system_places

OPENS_REASONING = re.compile(r"<(\w+)>(\s*)\Z")


@dataclass(frozen=True)
class MessageForm:
    """How a template wants its messages."""

    json_arguments: bool = False
    """Arguments as JSON text instead of a dict (DeepSeek)."""
    content_parts: bool = False
    """Content as [{"type": "text", "text": ...}] instead of a string."""
    call_ids: CallIds = ANY

    def to_template(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """The messages as the template reads them."""
        return [self.apply(message.to_template()) for message in self.with_ids(messages)]

    def with_ids(self, messages: Sequence[Message]) -> Sequence[Message]:
        """The messages, their calls with the ids that the template demands."""
        return messages if self.call_ids is ANY else self.call_ids.apply(messages)

    def apply(self, message: dict[str, Any]) -> dict[str, Any]:
        """A message, given as `Message.to_template` gives it."""
        if self.json_arguments and "tool_calls" in message:
            calls = []
            for call in message["tool_calls"]:
                arguments = json.dumps(call["function"]["arguments"], ensure_ascii=False)
                calls.append({**call, "function": {**call["function"], "arguments": arguments}})
            message = {**message, "tool_calls": calls}
        return {**message, "content": self.content(message["content"])} if self.content_parts else message

    def content(self, text: str) -> Any:
        """Content of a message."""
        return [{"type": "text", "text": text}] if self.content_parts else text


@dataclass(frozen=True)
class ShownChat:
    """A chat, typed control strings marked, with what was rendered of it so far."""

    template: ChatTemplate
    control: ControlTokens
    form: MessageForm
    messages: Sequence[Message]
    marked: list[dict[str, Any]]
    """The messages as the template reads them."""
    specs: list[dict[str, Any]]
    first: int
    """Where the private characters start that mark them."""
    beginnings: Beginnings = field(init=False)
    encoding: Encoding = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "beginnings", self.template.beginnings(self.marked, self.specs))
        object.__setattr__(self, "encoding", Encoding(self.control, self.first))

    @classmethod
    def of(
        cls,
        template: ChatTemplate,
        control: ControlTokens,
        form: MessageForm,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
    ) -> ShownChat:
        """A chat with typed control strings marked, in any field.

        Raises:
            Unrenderable: if it uses up the private characters.
        """
        plain = [message.to_template() for message in form.with_ids(messages)]
        specs = [tool.model_dump() for tool in tools]
        everything = json.dumps([plain, specs], ensure_ascii=False)
        first = control.first_free(everything)
        # JSON text is what is searched, so control strings with quotes or backslashes are looked for in any case.
        if control.may_be_typed(everything):
            plain, specs = control.mark(plain, first), control.mark(specs, first)
        return cls(template, control, form, messages, [form.apply(message) for message in plain], specs, first)

    def of_kept(self, kept: Sequence[int]) -> ShownChat:
        """The chat with these of its messages only."""
        messages, marked = [self.messages[k] for k in kept], [self.marked[k] for k in kept]
        return ShownChat(self.template, self.control, self.form, messages, marked, self.specs, self.first)

    def unmark(self, text: str) -> str:
        """A text as it was typed."""
        return self.control.unmark(text, self.first)

    # ---------------------------------------------------------------- what the model is given

    def prompt(self, t: int | None = None) -> str:
        """What stands before message t (without one: behind all messages), with the generation prompt.

        Raises:
            Unrenderable: if the template refuses the messages.
        """
        return self.beginnings.text(len(self.messages) if t is None else t, generate=True)

    def lost_from_prompt(self, t: int, prompt: str) -> set[str]:
        """What the prompt of turn t lacks, as a served one does: a system turn that the template shows in other prompts only.

        Raises:
            Unrenderable: if it lacks a result that this turn is the first to see.
        """
        lost = set()
        text = self.unmark(prompt)
        run = t
        while run > 0 and self.messages[run - 1].role == "tool":
            run -= 1
        for k, part in [(k, "system") for k in system_places(self.messages)] + [(k, "results") for k in range(run, t)]:
            if is_shown(self.messages[k].content.strip(), text):
                continue
            # Not word for word. It may be shown in another spelling; a placeholder in its place tells.
            placeholder = self.control.placeholder(self.first)
            messages = self.marked[:t]
            messages[k] = {**messages[k], "content": self.form.content(placeholder)}
            if placeholder in (self.template.try_to_render(messages, self.specs, generate=True) or ""):
                continue
            if part == "results":
                raise Unrenderable(f"the template loses {part}; {TEMPLATE_ADVICE}")
            lost.add(part)
        return lost

    # ---------------------------------------------------------------- what it has to write

    def completion(self, t: int, prompt: str) -> str:
        """What the model has to write after `prompt` for message t, and what the template adds after it.

        Raises:
            Unrenderable: if the template does not tell.
        """
        shown = self.beginnings.text(t + 1, generate=False)
        if shown.startswith(prompt):
            return shown[len(prompt) :]
        ways: tuple[Callable[[int, str, str], str | None], ...] = (  # tried in turn: each renders the chat again
            self._with_empty_reasoning,
            self._with_switches,
            self._after_opened_reasoning,
            self._after_shorter_history,
        )
        for way in ways:
            if (completion := way(t, prompt, shown)) is not None:
                return completion
        if self.marked[t].get("reasoning_content") and prompt.rstrip().endswith(("</think>", "/think>")):
            raise Unrenderable(f"the template's generation prompt leaves no room for reasoning; {TEMPLATE_ADVICE}")
        raise Unrenderable("the template shows a finished turn differently from its generation prompt")

    def _with_empty_reasoning(self, t: int, prompt: str, _shown: str) -> str | None:
        """The prompt opens reasoning, a turn without any is shown in another way: what closes it at once is trained.

        The template writes it itself, around a placeholder that is then taken out.
        """
        if (self.marked[t].get("reasoning_content") or "").strip():
            return None
        placeholder = self.control.placeholder(self.first)
        try:
            after = self.beginnings.text_with(t + 1, {**self.marked[t], "reasoning_content": placeholder})
        except Unrenderable:
            return None
        if not after.startswith(prompt) or after.count(placeholder, len(prompt)) != 1:
            return None
        return after[len(prompt) :].replace(placeholder, "")

    def _with_switches(self, t: int, prompt: str, _shown: str) -> str | None:
        """The finished turn as a switch of the template shows it; the prompt stays the one that is served by default."""
        for switch in self.template.switches:
            for value in (True, False):
                after = self.template.try_to_render(self.marked[: t + 1], self.specs, **{switch: value})
                if after is not None and after.startswith(prompt):
                    return after[len(prompt) :]
        return None

    def _after_opened_reasoning(self, t: int, prompt: str, shown: str) -> str | None:
        """DeepSeek's prompt ends with `<think>`, and no finished turn shows how that was closed.

        The target goes on inside: the reasoning, then the closing tag with the line breaks of R1's format, then the turn as
        the template shows it. A turn without reasoning closes it at once.
        """
        opening = OPENS_REASONING.search(prompt)
        if opening is None or not shown.startswith(prompt[: opening.start()]):
            return None
        closing = f"</{opening[1]}>"
        rest = shown[opening.start() :]
        if closing not in self.template.source or rest.startswith(opening[0].strip()):
            return None
        reasoning = (self.marked[t].get("reasoning_content") or "").strip()
        if reasoning and reasoning in rest:
            return None
        return f"{reasoning}{opening[2]}{closing}{opening[2] * 2}{rest}"

    def _after_shorter_history(self, t: int, prompt: str, shown: str) -> str | None:
        """The finished turn changes what is shown of its history: gpt-oss drops the analysis before a final answer, Mistral
        Nemo the system turn that it writes beside a last question.

        The completion is then read off the same turn after the bare question, and has to be the end of this chat as well.
        """
        unfinished = self.beginnings.text(t, generate=False)
        header = prompt[len(unfinished) :] if prompt.startswith(unfinished) else ""
        question = max((k for k in range(t) if self.messages[k].role == "user"), default=None)
        if question is None:
            return None
        for kept in dict.fromkeys(((*system_places(self.messages), question), (question,))):
            history = [self.marked[k] for k in kept]
            shorter = self.template.try_to_render(history, self.specs, generate=True)
            finished = self.template.try_to_render([*history, self.marked[t]], self.specs)
            if shorter is None or finished is None or not finished.startswith(shorter):
                continue
            completion = finished[len(shorter) :]
            if completion.strip() and shown.endswith(header + completion):
                return completion
        return None
