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

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from data.chats import Message, ToolCall
from data.records import ToolSpec
from data.rendering.call_forms import CALL_FORMS, HERMES, Form, Schemas, Unread, Written, tools_to_schemas

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
        is_whole = form.family == "harmony"  # its channels hold the reasoning too
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
