"""What a template wants and what it can do, found once for each model: by probes, never by a template's name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from core.errors import UserError
from data.chats import Message, ToolCall
from data.records import ToolSpec
from data.rendering.call_ids import ANY, ID_FORMS, CallIds
from data.rendering.chat_template import ChatTemplate
from data.rendering.control_tokens import ControlTokens, Unrenderable
from data.rendering.lost_parts import TEMPLATE_ADVICE, is_shown, refuse_lost_words
from data.rendering.shown_chat import OPENS_REASONING, MessageForm, ShownChat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

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
QUESTION = Message(role="user", content="Probe question 123? 한국어 🙂\n\n  indented")
_ASKS = Message(
    role="assistant",
    tool_calls=(ToolCall(id="call00000", name="probe_tool", arguments={"probe_key": "probe value", "flag": True}),),
)
_RESULT = Message(role="tool", content="Probe result.", tool_call_id="call00000", name="probe_tool")
_ANSWER = Message(role="assistant", content="Probe answer.")


@dataclass(frozen=True)
class Habits:
    """What a template wants and what it can do."""

    form: MessageForm
    opened: str
    """The tag of reasoning that the prompt of a question opens, or ""."""
    next_role: dict[bool, str | None]
    """The control token that ends a turn (true: one with calls) which has no stop token of its own, as GLM's."""
    faults: dict[str, str]
    """What the template loses, by part, each with the reason why a chat with such a part is refused."""


def find_habits(template: ChatTemplate, control: ControlTokens, stop_texts: set[str]) -> Habits:
    """The habits of a template whose turns end with one of `stop_texts`."""
    form = _find_form(template)
    form = replace(form, call_ids=_find_call_ids(template, form))
    question = template.try_to_render(form.to_template([QUESTION]), [], generate=True)
    opening = OPENS_REASONING.search(question or "")
    return Habits(
        form=form,
        opened=opening[0] if opening else "",
        next_role={calls: _find_next_role(template, control, stop_texts, form, calls=calls) for calls in (False, True)},
        faults=_find_faults(template, control, form),
    )


def prove_ids(
    tokenizer: PreTrainedTokenizerFast, template: ChatTemplate, control: ControlTokens, form: MessageForm
) -> None:
    """Compare with `apply_chat_template` on ordinary text.

    Raises:
        UserError: if the ids differ, which would break promise 1, or not even one question can be shown.
    """
    name = tokenizer.name_or_path
    for messages in (
        [QUESTION],
        [_SYSTEM, QUESTION],
        [QUESTION, _ANSWER, QUESTION],
        [_SYSTEM, QUESTION, _ASKS, _RESULT],
    ):
        try:
            shown = ShownChat.of(template, control, form, messages)
            text = shown.prompt()
        except Unrenderable as error:
            if messages == [QUESTION]:
                raise UserError(f"{name}: not even one question can be shown: {error}") from None
            continue
        theirs = tokenizer.apply_chat_template(
            form.to_template(messages), add_generation_prompt=True, tokenize=True, return_dict=True
        )["input_ids"]
        if shown.encoding.extend_to(text).ids != list(theirs) or not control.follows():
            raise UserError(
                f"{name}: this tokenizer cannot be followed exactly (its ids change when control tokens are renamed); "
                "please report it with the tokenizer's name"
            )


def _find_form(template: ChatTemplate) -> MessageForm:
    """The first form in which most of a small chat can be shown."""
    best, best_score = MessageForm(), -1
    for form in (
        MessageForm(),
        MessageForm(json_arguments=True),
        MessageForm(content_parts=True),
        MessageForm(True, True),
    ):
        user = template.try_to_render(form.to_template([QUESTION]), [], generate=True) or ""
        call = template.try_to_render(form.to_template([QUESTION, _ASKS, _RESULT]), [], generate=True) or ""
        shows_call = "probe value" in call and str(_ASKS.tool_calls[0].arguments) not in call
        score = 2 * ("Probe question" in user) + shows_call
        if score > best_score:
            best, best_score = form, score
    return best


def _find_call_ids(template: ChatTemplate, form: MessageForm) -> CallIds:
    """The first form of ids with which a call and its result are shown, whichever ids the source wrote."""
    for ids in ID_FORMS:
        fitted = replace(form, call_ids=ids)
        if all(_shows_call(template, fitted, name) for name in ("call_0", f"chatcmpl-tool-{0:032}")):
            return ids
    return ANY


def _shows_call(template: ChatTemplate, form: MessageForm, call_id: str) -> bool:
    """Whether the small call and its result are shown, by another id."""
    [call] = _ASKS.tool_calls
    asks = _ASKS.model_copy(update={"tool_calls": (call.model_copy(update={"id": call_id}),)})
    shown = form.to_template([QUESTION, asks, _RESULT.model_copy(update={"tool_call_id": call_id})])
    text, behind = template.try_to_render(shown[:-1], []), template.try_to_render(shown, [], generate=True)
    return text is not None and behind is not None and "probe_tool" in text and "probe value" in text


def _find_next_role(
    template: ChatTemplate, control: ControlTokens, stop_texts: set[str], form: MessageForm, *, calls: bool
) -> str | None:
    """Where a finished turn has no stop token of its own, as GLM's, the next role's token ends it, if it is one."""
    turn, follow = (_ASKS, _RESULT) if calls else (_ANSWER, QUESTION)
    messages = form.to_template([QUESTION, turn, follow])
    finished, followed = template.try_to_render(messages[:2], []), template.try_to_render(messages, [])
    if finished is None or followed is None or not followed.startswith(finished):
        return None
    match = next(control.find(followed[len(finished) :]), None)
    return match[0] if match is not None and match.start() == 0 and match[0] in stop_texts else None


def _find_faults(template: ChatTemplate, control: ControlTokens, form: MessageForm) -> dict[str, str]:
    """What a template loses, found by rendering words that occur nowhere else."""

    def shows(messages: list[Message], words: list[str], tools: Sequence[ToolSpec] = ()) -> str | None:
        try:
            text = ShownChat.of(template, control, form, messages, tools).prompt()
        except Unrenderable as error:
            return str(error)
        missing = [word for word in words if not is_shown(word, text)]
        return f"it does not show {missing[0]!r}" if missing else None

    def trains(message: Message) -> str | None:
        try:
            shown = ShownChat.of(template, control, form, [QUESTION, message])
            refuse_lost_words(message, shown.unmark(shown.completion(1, shown.prompt(1))))
        except Unrenderable as error:
            return str(error).partition(";")[0]
        return None

    told = [_SYSTEM, QUESTION]
    tool_words = ["probe_tool", "Probe description", "probe_key", "probe_other"]
    both = Message(role="assistant", tool_calls=(*_ASKS.tool_calls, _OTHER_CALL))
    other_result = Message(role="tool", content="Another result.", tool_call_id=_OTHER_CALL.id, name="probe_other")
    checks: dict[str, Callable[[], str | None]] = {
        "system": lambda: shows(told, ["Probe system."]) or shows(told, ["Probe system."], _TOOLS),
        "tools": lambda: shows([QUESTION], tool_words, _TOOLS),
        "calls": lambda: shows([QUESTION, _ASKS, _RESULT], ["probe_tool", "probe value"]),
        "parallel calls": lambda: shows([QUESTION, both, _RESULT, other_result], ["probe value", "other value"]),
        "results": lambda: shows([QUESTION, _ASKS, _RESULT], ["Probe result."]),
        "content beside calls": lambda: trains(_ASKS.model_copy(update={"content": "Probe words."})),
        "reasoning": lambda: trains(_ANSWER.model_copy(update={"reasoning_content": "Probe thought."})),
        "reasoning beside calls": lambda: trains(_ASKS.model_copy(update={"reasoning_content": "Probe thought."})),
    }  # fmt: skip
    return {
        part: f"the template loses {part} ({why}); {TEMPLATE_ADVICE}"
        for part, check in checks.items()
        if (why := check())
    }
