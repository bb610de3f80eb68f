"""What a model wrote, read back: its words, its reasoning and its calls.

A model writes calls in the form that its family was trained on, and not always in that one. `CALL_FORMS` is a table of the
documented ones. A reply is read in the template's own form first, then in those of its family, then in the others, tried in
the order of the table; `Reply.form` says which one it was when it was not the template's own.

When is text a call? Text is text, so the form of another family counts only where nothing else can be meant:

* every call in it names a tool that there is;
* it begins a line, nothing comes after it, and it is not quoted as code;
* a form without a tag of its own (bare JSON, a list of Python calls) is the whole reply.

An ending that cannot be an answer never is one: a reply that breaks off in a call, leaves a block open, ends with the stop
token that awaits a tool's result, holds a bare control token or nothing at all is told as unreadable, with the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from core.errors import first_line
from core.json_lines import json_to_object
from data.chats import Message, ToolCall, what_is_said
from data.records import ToolSpec
from data.rendering.call_forms.form import Form, Schemas, Unread, Written, tools_to_schemas
from data.rendering.call_forms.table import CALL_FORMS, HERMES
from data.rendering.control_tokens import ControlTokens
from data.rendering.habits import Habits

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

NOTHING_SAID = "the turn holds neither words nor a call"
AWAITING_A_RESULT = (
    "<|eom_id|>",
    "<|eom|>",
    "<|call|>",
    "<|tool_response>",
    "<|observation|>",
    "<start_function_response>",
)
"""Stop tokens that end a turn in which a tool was called, and never an answer."""
_REASONING = (
    ("<think>", "</think>"),
    ("<|channel>thought", "<channel|>"),  # Gemma 4
    ("[THINK]", "[/THINK]"),  # Mistral
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Cohere
    ("<seed:think>", "</seed:think>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
)
_WRAPPED = (
    ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ("<|START_TEXT|>", "<|END_TEXT|>"),
    ("<response>", "</response>"),
)
"""What some families (Cohere, ERNIE) write around their words."""
_HARMONY_WITHOUT_CONTROL = re.compile(r"\A(?:analysis|commentary).*assistant(?:final|commentary|analysis)", re.DOTALL)


class Reply(NamedTuple):
    """A reply as a message, or one line that says why it is unreadable; `form` names another form than the template's."""

    said: Message | str
    form: str | None = None


def read_reply(
    text: str,
    *,
    own: Form | None,
    tools: Sequence[ToolSpec] = (),
    control: re.Pattern[str] | None = None,
    awaits_result: bool = False,
    is_bare_text: bool = False,
    opened: str = "",
    known: frozenset[str] = frozenset(),
) -> Reply:
    """What a model wrote, without its stop token, as a message; or why it cannot be read.

    Args:
        own: the form in which the model's template writes calls; null where it writes none.
        tools: what can be called. They tell the types of arguments where a form has only texts.
        control: finds the tokenizer's control tokens, which may stand in forms only.
        awaits_result: the stop token was one that ends a call.
        is_bare_text: nobody knows the template, and control tokens may be missing (a server's text).
        opened: the tag of the reasoning that the prompt has opened and the model goes on with.
        known: tags that are tokens of the model's own. Forms of such tags belong to its family, whatever its template writes.
    """
    schemas = tools_to_schemas(tools)
    if opened and not text.lstrip().startswith(opened.strip()):
        text = opened + text
    reasoning: str | None
    turn, form, reason = _find_calls(text, own, schemas, is_bare_text=is_bare_text, opened=opened, known=known)
    if reason is not None:
        return Reply(reason)
    split = _split_reasoning(text, is_bare_text=is_bare_text, opened=opened)
    if turn is not None and turn.reasoning is not None:  # harmony, which has channels for all
        before = None if isinstance(split, str) else split[0]
        reasoning, content = turn.reasoning or before, turn.content
    elif isinstance(split, str):
        return Reply(split)
    else:
        reasoning, rest = split
        content = _unwrapped(turn.content if turn is not None else rest)
    calls = turn.calls if turn is not None else []
    if control is not None and (left := control.search(content)):
        return Reply(f"the turn holds the control token {left[0]} outside of any call")
    if not calls:
        if (tag := _left_tag(content, own, is_bare_text=is_bare_text)) is not None:
            return Reply(
                f"a {tag} was never opened" if tag.startswith("</") else f"a {tag} is not closed, or holds no call"
            )
        if awaits_result:
            return Reply("the turn ends as a call does, and holds none")
        if not content.strip():
            return Reply(NOTHING_SAID)
    message = Message(
        role="assistant",
        content=content.strip(),
        reasoning_content=reasoning or None,
        tool_calls=tuple(
            ToolCall(id=f"call_{place}", name=name, arguments=arguments)
            for place, (name, arguments) in enumerate(calls)
        ),
    )
    return Reply(message, None if form is own or not calls else form.name if form else None)


def _left_tag(content: str, own: Form | None, *, is_bare_text: bool) -> str | None:
    """A tag of calls in words that hold none: anywhere, if it is the template's own, else where the words begin or end."""
    found = sorted((content.find(tag), tag) for tag in (own.tags if own is not None else ()) if tag in content)
    if found and not (is_bare_text and _is_quoted(content[: found[0][0]])):
        return found[0][1]
    stripped = content.strip()
    control = (tag for form in CALL_FORMS for tag in form.tags if any(sign in tag for sign in ("|", "｜", "[TOOL")))
    return next((tag for tag in control if stripped.startswith(tag) or stripped.endswith(tag)), None)


def text_to_message(text: str, tools: Sequence[ToolSpec] = ()) -> Message | str:
    """Assistant text of an unknown family, as a message; or one line that says what cannot be read."""
    return read_reply(text, own=HERMES, tools=tools, is_bare_text=True).said


def left_call(text: str, tools: Sequence[ToolSpec]) -> str | None:
    """The form of a call of one of `tools` that stands in a text, wherever it stands, unless it is quoted."""
    schemas = tools_to_schemas(tools)
    for form in CALL_FORMS:
        if form.bare:
            continue
        try:
            turn = form.turn(text, schemas)
        except Unread:
            continue
        if turn and turn.calls and not _is_quoted(turn.before) and all(name in schemas for name, _ in turn.calls):
            return form.name
    return None


def breaks_off_in_call(text: str) -> bool:
    """Whether the text ends in the midst of a call: with an opening whose block has no end."""
    for form in CALL_FORMS:
        found = None if form.bare else [*form.opening.finditer(text)]
        if not found:
            continue
        try:
            form.turn(text[found[-1].start() :], {})
        except Unread:
            return True
    return False


def _find_calls(
    text: str, own: Form | None, schemas: Schemas, *, is_bare_text: bool, opened: str, known: frozenset[str]
) -> tuple[Written | None, Form | None, str | None]:
    """The calls of a reply and their form; or why a call that was begun cannot be read. No call is no fault."""
    split = _split_reasoning(text, is_bare_text=is_bare_text, opened=opened)
    reason: str | None = None
    for form in _in_order(own):
        is_whole = form.read_turn is not None  # harmony: its channels hold the reasoning too
        is_sibling = own is not None and form.family == own.family and not form.bare
        has_own_tags = not form.bare and not known.isdisjoint(form.tags)
        if is_whole and (form is own or isinstance(split, str)):
            rest = text
        elif isinstance(split, str):
            continue
        else:
            rest = split[1]
        begins = form.opening.match(rest.lstrip())
        if form is own and form.bare and _is_tagged(form, rest):
            continue
        try:
            turn = form.turn(rest, schemas)
        except Unread as error:
            is_begun = begins is not None and (not form.bare or _names_any(rest[:400], schemas))
            if form is own or is_begun or is_sibling or has_own_tags:
                reason = reason or str(error)
            continue
        if turn is None or (not turn.calls and not is_whole):
            continue
        is_declared = all(name in schemas for name, _ in turn.calls)
        if form is own:
            is_quoted = _is_quoted(turn.before) and (is_bare_text or form.bare)
            if not is_quoted and (is_declared or not form.bare or (turn.alone and not turn.before.strip())):
                return turn, form, None
            continue
        if is_whole and not begins:
            continue
        if (is_sibling or (has_own_tags and is_declared)) and not is_bare_text:
            return turn, form, None
        stands_alone = turn.alone and _ends_line(turn.before) and not _is_quoted(turn.before)
        if form.bare:
            stands_alone = turn.alone and not turn.before.strip()
        if stands_alone and is_declared:
            return turn, form, None
        if begins is not None and not form.bare and not is_declared:
            reason = reason or f"the call names no tool that there is: {turn.calls[0][0]!r:.80}"
    if reason is None and own is not None and own.family == "harmony":
        reason = "harmony's turn has no channel"
    if reason is None and is_bare_text and _HARMONY_WITHOUT_CONTROL.match(text.lstrip()):
        reason = "harmony's channels without their control tokens"
    return None, None, reason


def _is_tagged(bare: Form, text: str) -> bool:
    """Whether a form of the family that has a tag begins before anything of the bare one: Llama's JSON behind its tag."""
    first = found.start() if (found := bare.opening.search(text)) else len(text)
    return any(
        (tagged := form.opening.search(text)) is not None and tagged.start() < first
        for form in CALL_FORMS
        if form.family == bare.family and not form.bare
    )


def _in_order(own: Form | None) -> Iterator[Form]:
    """The template's own form, its family's, the others."""
    if own is not None:
        yield own
        yield from (form for form in CALL_FORMS if form.family == own.family and form is not own)
    yield from (form for form in CALL_FORMS if own is None or form.family != own.family)


def _names_any(text: str, schemas: Schemas) -> bool:
    return any(f'"{name}"' in text or f"{name}(" in text for name in schemas)


def _ends_line(text: str) -> bool:
    return not text.strip() or text.rstrip(" \t").endswith("\n")


def _is_quoted(before: str) -> bool:
    """Whether what comes next is quoted as code."""
    return before.count("```") % 2 == 1 or before.rstrip(" \t").endswith("`")


def _split_reasoning(text: str, *, is_bare_text: bool, opened: str) -> tuple[str | None, str] | str:
    """Reasoning and the rest; or why there is none: a turn that ends in its reasoning is no answer."""
    stripped = text.lstrip()
    tag = re.match(r"<(\w+)>", opened)
    for opening, closing in (*_REASONING, *([(tag[0], f"</{tag[1]}>")] if tag else [])):
        if stripped.startswith(opening):
            reasoning, closed, rest = stripped[len(opening) :].partition(closing)
            if not closed:
                return "the reasoning is not closed"
            return reasoning.removeprefix("\n").removesuffix("\n"), rest.lstrip()
        if is_bare_text and closing in text and opening not in text:  # the prompt had opened it
            reasoning, _, rest = text.partition(closing)
            return reasoning.strip(), rest.lstrip()
    return None, text


def _unwrapped(content: str) -> str:
    for opening, closing in _WRAPPED:
        if content.strip().startswith(opening):
            return content.strip().removeprefix(opening).removesuffix(closing)
    return content


# ---------------------------------------------------------------- ids


PROBE_TOOL = ToolSpec.model_validate(
    {"function": {"name": "probe", "description": "Probe.", "parameters": {"type": "object", "properties": {
        "text": {"type": "string"}, "count": {"type": "integer"}}}}}
)  # fmt: skip
PROBE_CALLS = tuple(
    Message(
        role="assistant",
        tool_calls=(ToolCall(id="call00000", name="probe", arguments={"text": text, "count": 7}),),
    )
    for text in ("7", "a\\nb 'c' \"d\"", " a\n")
)
"""A call, then quotes and escapes, then a text with edges: what a template makes of them tells its form of calls."""


class ReplyReader:
    """Reads the ids that one model emits."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        control: ControlTokens,
        habits: Habits,
        stop_ids: Sequence[int],
        written: Sequence[tuple[list[int], Message]],
    ) -> None:
        """`written`: what the model's template makes of `PROBE_CALLS`, in ids, as far as it shows them."""
        self._tokenizer, self._control, self._habits, self._stop_ids = tokenizer, control, habits, stop_ids
        self.call_form = self._find_call_form(written)

    def _find_call_form(self, written: Sequence[tuple[list[int], Message]]) -> Form | None:
        """The form in which the template writes calls: the first of the table that reads back what it makes of most.

        Null where none does. Trying beats comparing templates by name, because a template is often changed a little while its
        form of calls stays.
        """
        best, most = None, 0
        for form in CALL_FORMS:
            reads = 0
            for ids, probe in written:
                said, other = self._read(ids, form, (PROBE_TOOL,))
                if isinstance(said, str) or other or what_is_said([said]) != what_is_said([probe]):
                    break
                reads += 1
            if reads > most:  # the later probes hold what is rare; a form that reads the first one is the template's
                best, most = form, reads
        return best

    def read(self, ids: Sequence[int], *, prompt: Sequence[int], tools: Sequence[ToolSpec]) -> Reply:
        """What a model emitted after `prompt`, and in which form, if it was not the template's own.

        Where no form of the table is the template's own, the response template is used that its tokenizer may carry.
        """
        response_template = getattr(self._tokenizer, "response_template", None)
        if self.call_form is None and response_template:
            said = self._parse_response(response_template, ids, prompt, tools)
            if isinstance(said, Message) and said.tool_calls:
                return Reply(said)
        return self._read(ids, self.call_form or HERMES, tools)

    def _read(self, ids: Sequence[int], own: Form, tools: Sequence[ToolSpec]) -> Reply:
        kept = list(ids)
        while kept and kept[-1] in self._stop_ids:
            kept.pop()
        stops = self._control.written(ids[len(kept) :])
        next_role = self._habits.next_role
        awaits_result = any(stop in AWAITING_A_RESULT or stop == next_role[True] != next_role[False] for stop in stops)
        # A control token that the model typed letter by letter is text, as it is in training.
        text, typed = self._control.to_marked(kept)
        known = frozenset(token.content for token in self._tokenizer.added_tokens_decoder.values())
        reply = read_reply(
            text,
            own=own,
            tools=tools,
            control=self._control.special,
            awaits_result=awaits_result,
            opened=self._habits.opened,
            known=known,
        )
        if typed is None:
            return reply
        if not isinstance(reply.said, Message) or not reply.said.tool_calls:
            loose = read_reply(
                self._control.unmark(text, typed),
                own=None,
                tools=tools,
                awaits_result=awaits_result,
                opened=self._habits.opened,
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
            parsed = self._tokenizer.parse_response(list(ids), prefix=list(prompt), tools=specs) or {}
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
