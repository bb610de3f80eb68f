"""Turns as lists of messages -> a conversation, in all dialects that files of chat messages mix.

A turn is `{"role", "content"}`, or ShareGPT's `{"from", "value"}`. Beside OpenAI's `tool_calls`, `function_call`,
`tool_call_id`, `name`, `weight` and the reasoning keys of open models' files, these are read:

* bare calls (`{"name", "arguments"}`), and JSON text in the place of any value;
* results that are no text, and several in one turn (data/formats/results.py);
* a call as a turn of its own (role `tool_call` in ms-swift, `function_call` in LLaMA-Factory), which belongs to the turn of
  words before it;
* calls in the assistant's text as `<tool_call>` blocks, as Hermes and Qwen write them, and results as `<tool_response>`,
  also in the user's name; tools in the system prompt's `<tools>`;
* `functions` and `function_calls` of AllenAI's sets, the latter in Python;
* an assistant's content as typed parts: `text`, `thinking` (tinker) or `reasoning` (LLaMA-Factory's v1), `tool_call`;
* calls and thoughts in `additional_kwargs`, where LangChain repeats what a service answered;
* tools as a key of the system message (GLM).

Thoughts may stand in a key or as a `<think>` block that opens the assistant's text (data/rendering/assistant_text.py). What may
be talk about a tag stays text: `<think>` where a user wrote that tag before, `<tool_call>` where a user did and
nothing answers it.
"""

from __future__ import annotations

import re
from typing import Any

from data.formats.judgements import is_nothing
from data.formats.parts import (
    ARGUMENTS,
    Conversation,
    Row,
    RowCall,
    Unrepresentable,
    asks_about,
    call_in,
    calls_in,
    speaker_of,
    text_of,
    thought_and_words,
    tools_of,
    value_in,
    weight_of,
)
from data.formats.python_calls import python_calls
from data.formats.results import GivenResult, result_in, result_to_text, results_in
from data.formats.row_keys import A_CALL_NOT_PARSED, NOT_PARSED, WEIGHT_DETAILS, WEIGHT_KEYS
from data.rendering.assistant_text import tagged_blocks

REASONING = ("reasoning_content", "reasoning", "thinking")
"""Where servers and open models' files put what was thought; the first that is there is read."""

TURN_KEYS = frozenset(
    {
        *("role", "content", "from", "value", "name", "tool_name", "tool_call_id", "tools", "functions"),
        *("tool_calls", "function_call", "function_calls", *ARGUMENTS, *REASONING, *WEIGHT_KEYS, *WEIGHT_DETAILS),
        *("additional_kwargs", *NOT_PARSED),
    }
)
"""Keys of a turn that `say_messages` reads."""

# One line break on the inner side of a tag belongs to the tag: that is how templates write them, and what makes reading
# the exact inverse of writing.
_RESPONSE = re.compile(r"<tool_response>\n?(.*?)\n?</tool_response>", re.DOTALL)
_TOOLS = re.compile(r"<tools>\s*([\[{].*?)\s*</tools>", re.DOTALL)
_PUBLISHED_PROMPTS = (
    re.compile(
        r"You are a function calling AI model\.(?!.*<scratch_pad>).*<tools>.*</tools>[.\s]*"
        r"(?:Use the following pydantic model|For each function call).*(?:</tool_call>|tags\.)\s*\Z",
        re.DOTALL,
    ),
    re.compile(r"# Tools\s+You may call one or more functions.*<tools>.*</tool_call>\s*\Z", re.DOTALL),
    re.compile(r"\A\s*<tools>.*</tools>\s*\Z", re.DOTALL),
)


def _own_id(value: Any, if_other: str) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | None):
        raise Unrepresentable(if_other)
    return None if value is None or value == "" else str(value)


def calls_of(message: Row) -> list[RowCall]:
    """The calls that stand in keys of an assistant's message, as (id or null, name, arguments)."""
    calls: list[RowCall] = []
    listed = value_in(message.get("tool_calls"), "tool_calls are no JSON") or []
    if isinstance(listed, dict):
        listed = [listed]
    if not isinstance(listed, list):
        raise Unrepresentable("tool_calls are no list")
    for call in listed:
        call = value_in(call, "a call that is no JSON")
        if not isinstance(call, dict) or call.get("type") not in (None, "", "function", "tool_call"):
            raise Unrepresentable("a call of something that is no function")
        function = call["function"] if call.get("function") is not None else call
        calls.append((_own_id(call.get("id"), "a call id that is no text"), *call_in(function)))
    for key, read in (("function_call", calls_in), ("function_calls", python_calls)):
        value = message.get(key)
        if value is None or value == {} or (isinstance(value, str) and not value.strip()):
            continue
        if calls:
            raise Unrepresentable(f"{key} beside tool_calls")
        calls += [(None, *call) for call in read(value)]
    return calls


def _calls_in_text(text: str) -> tuple[str, list[RowCall]]:
    """The words of an assistant's text, and the calls in its `<tool_call>` blocks."""
    blocks = tagged_blocks(text)
    content = text[: blocks[0].start].removesuffix("\n") if blocks else text
    starts = [*(block.start for block in blocks[1:]), len(text)]
    between = [text[block.end : start] for block, start in zip(blocks, starts, strict=bool(blocks))]
    if any(tag in part for part in (content, *between) for tag in ("<tool_call>", "</tool_call>")):
        raise Unrepresentable("a <tool_call> block without an end")
    if any(part.strip() for part in between):
        raise Unrepresentable("text after a call")
    return content, [(None, *call) for block in blocks for call in calls_in(block.body)]


def _results_in_text(text: str) -> list[str]:
    """The results of one turn: one for each `<tool_response>`, or the whole text, which may hold the tag somewhere inside."""
    if not (text.strip().startswith("<tool_response>") or text.strip().endswith("</tool_response>")):
        return [text]
    if _RESPONSE.sub("", text).strip():
        raise Unrepresentable("text beside a <tool_response>")
    return _RESPONSE.findall(text)


def _holds_results_only(text: Any) -> bool:
    return isinstance(text, str) and "<tool_response>" in text and not _RESPONSE.sub("", text).strip()


def _system_and_tools(text: str) -> tuple[str | None, Any]:
    """What a system turn says beside the published tool prompts (null where that is nothing), and the definitions in its
    `<tools>` block: a list, or one object a line."""
    block = _TOOLS.search(text)
    if block is None:
        return text, None
    tools = block[1] if block[1].startswith("[") else block[1].splitlines()
    for prompt in _PUBLISHED_PROMPTS:
        if found := prompt.search(text):
            return (text[: found.start()].removesuffix("\n\n") if found.start() else None), tools
    return text, tools


def say_system(conversation: Conversation, text: str) -> None:
    """A system prompt. The tools that it tells become the conversation's; a published prompt that only tells them, which a
    chat template writes by itself from the definitions, is cut off."""
    said, written = _system_and_tools(text)
    if written is not None:
        conversation.tools = conversation.tools or tools_of(written)
    if said is not None:
        conversation.say("system", said)
    elif conversation.messages:
        raise Unrepresentable("a system message that is not the first")


def content_of(turn: Row) -> Any:
    """What is said in a turn, as OpenAI's files or ShareGPT's name it."""
    return turn["content"] if turn.get("content") is not None else turn.get("value")


def role_of(turn: Row) -> Any:
    """Who says it, in either spelling."""
    return turn["role"] if turn.get("role") is not None else turn.get("from")


def _text_in(turn: Row) -> str:
    content = content_of(turn)
    if content is None:
        raise Unrepresentable("a message without content")
    return text_of(content)


def say_messages(conversation: Conversation, messages: list[Row]) -> None:
    """Say turns one after the other: roles, texts, reasoning, calls, results and weights, in any dialect named above.

    Raises:
        Unrepresentable: at the first turn that a conversation cannot hold.
    """
    for place, turn in enumerate(messages):
        following = messages[place + 1] if place + 1 < len(messages) else None
        speaker = speaker_of(role_of(turn))
        if speaker == "system":
            for key in ("tools", "functions"):
                conversation.tools = conversation.tools or tools_of(turn.get(key))
            say_system(conversation, _text_in(turn))
        elif speaker == "user":
            text = _text_in(turn)
            if conversation.waits and _holds_results_only(text):
                _say_results(conversation, turn, text, is_last=not _is_result(following))
            else:
                conversation.say("user", text)
        elif speaker == "assistant":
            _say_assistant(conversation, turn, is_answered=_is_result(following))
        elif speaker == "call":
            content = content_of(turn)
            calls = [call_in(turn)] if not content and "name" in turn else calls_in(content)
            for name, arguments in calls:
                conversation.call_too(name, arguments, weight=weight_of(turn))
        else:
            text = result_to_text(content_of(turn))
            _say_results(conversation, turn, text, is_last=not _is_result(following))


def _is_result(turn: Row | None) -> bool:
    return turn is not None and (speaker_of(role_of(turn)) == "result" or _holds_results_only(content_of(turn)))


def _say_results(conversation: Conversation, turn: Row, text: str, *, is_last: bool) -> None:
    """The results that a turn holds, `is_last` where the next turn holds no more of them."""
    own_id = _own_id(turn.get("tool_call_id"), "a result whose id or name is no text")
    name = turn.get("name", turn.get("tool_name"))
    if not isinstance(name, str | None):
        raise Unrepresentable("a result whose id or name is no text")
    texts = _results_in_text(text)
    waiting = conversation.waiting
    if len(texts) > 1 and len(texts) == len(waiting):
        own_id = None  # of one of them
    results = [GivenResult(each, own_id, name or None) for each in texts]
    if own_id is None and not name and len(waiting) > 1:
        is_only = len(texts) == 1 and is_last and not conversation.has_results
        results = (
            results_in(text=texts[0], waiting=waiting) if is_only else [result_in(each, waiting) for each in texts]
        )
    for result in results:
        conversation.answer(result.text, own_id=result.own_id, name=result.name)


def _in_one_text(turn: Row) -> Row:
    """An assistant's turn whose content is typed parts as one with a text, and with thoughts and calls in keys of their own."""
    parts = content_of(turn)
    if not isinstance(parts, list) or not any(isinstance(part, dict) and part.get("type") in _PARTS for part in parts):
        return turn
    made = AssistantParts()
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            made.speak(text_of([part]))
        elif kind in ("thinking", "reasoning"):
            made.think(next((part[key] for key in (kind, "text", "value") if part.get(key) is not None), None))
        elif kind == "tool_call":
            call = value_in(part.get("tool_call", part.get("value", part)), "a call that is no JSON")
            if not isinstance(call, dict):
                raise Unrepresentable("a call without a name")
            made.call(call.get("id"), *call_in(call["function"] if call.get("function") is not None else call))
        else:
            raise Unrepresentable(A_CALL_NOT_PARSED if kind in _PARTS else "content that is not text")
    said = made.turn({})
    if said["tool_calls"] and not is_nothing(turn.get("tool_calls")):
        raise Unrepresentable("a call in the content beside tool_calls")
    if said["reasoning_content"] and any(not is_nothing(turn.get(key)) for key in REASONING):
        raise Unrepresentable("a thought in the content beside another")
    said = {key: value for key, value in said.items() if value or key == "content"}
    return {**turn, **said, "weight": weight_of(turn)}


_PARTS = ("thinking", "reasoning", "tool_call", "unparsed_tool_call")
"""Parts of an assistant's content that are no text and no media."""


def _with_extra(turn: Row) -> Row:
    """A turn with what stands only in its `additional_kwargs`."""
    extra = turn.get("additional_kwargs")
    if not isinstance(extra, dict):
        return turn
    keys = ("tool_calls",) if extra.get("tool_calls") else ("function_call",)
    known = () if any(not is_nothing(turn.get(key)) for key in ("tool_calls", "function_call")) else keys
    return turn | {key: extra[key] for key in (*known, *REASONING) if extra.get(key) and is_nothing(turn.get(key))}


def _say_assistant(conversation: Conversation, turn: Row, *, is_answered: bool) -> None:
    if any(not is_nothing(turn.get(key)) for key in NOT_PARSED):
        raise Unrepresentable(A_CALL_NOT_PARSED)
    turn = _in_one_text(_with_extra(turn))
    calls = calls_of(turn)
    reasoning = next((turn[key] for key in REASONING if turn.get(key) is not None), None)
    if not isinstance(reasoning, str | None):
        raise Unrepresentable("reasoning that is not text")
    content = content_of(turn)
    if content is None and not calls:
        # A refusal or an audio answer: what the model said stands in a field that a chat does not have.
        raise Unrepresentable("a message without content")
    text = text_of(content)
    if "think>" in text and not asks_about(conversation.messages, "think"):
        reasoning, text = thought_and_words(reasoning, text)
    if "tool_call>" in text and (is_answered or not asks_about(conversation.messages, "tool_call")):
        if calls:
            raise Unrepresentable("a call as text beside calls")
        text, calls = _calls_in_text(text)
    elif "<functioncall>" in text and not asks_about(conversation.messages, "functioncall"):
        raise Unrepresentable("a call written as text")
    if conversation.waits and turn.get("function_call") and not (text or reasoning):
        for _, name, arguments in calls:  # where a turn has room for one call, parallel ones are turns of their own
            conversation.call_too(name, arguments, weight=weight_of(turn))
        return
    conversation.say("assistant", text, weight=weight_of(turn), reasoning=reasoning, calls=calls)


class AssistantParts:
    """An assistant's turn in the making, for formats that write it as parts: thoughts, then words, then calls.

    A turn of a chat has one of each, in this order; parts in another one raise `Unrepresentable`. Parts of nothing are none.
    """

    def __init__(self) -> None:
        self._thoughts: list[str] = []
        self._words: list[str] = []
        self._calls: list[Row] = []

    @property
    def has_spoken(self) -> bool:
        """Whether words were said already, behind which no thought can stand."""
        return bool(self._words)

    @property
    def has_called(self) -> bool:
        """Whether something was called already, behind which only more calls can stand."""
        return bool(self._calls)

    def think(self, text: Any) -> None:
        """Add a thought; several are one, a line for each."""
        if not isinstance(text, str | None):
            raise Unrepresentable("reasoning that is not text")
        if text is None or not text.strip():
            return
        if self._calls or self._words:
            raise Unrepresentable("a thought after a call" if self._calls else "a thought after words")
        self._thoughts.append(text)

    def speak(self, text: Any) -> None:
        """Add words to those that were said."""
        if not isinstance(text, str):
            raise Unrepresentable("content that is not text")
        if text and self._calls:
            raise Unrepresentable("text after a call")
        self._words += [text] if text else []

    def call(self, own_id: Any, name: Any, arguments: Any) -> None:
        """Add a call."""
        self._calls.append({"id": own_id, "name": name, "arguments": arguments})

    def turn(self, message: Row) -> Row:
        """The turn, for `say_messages`, with the weight of the message that it was read from."""
        turn = {key: message[key] for key in WEIGHT_KEYS if key in message}
        turn |= {"role": "assistant", "content": "".join(self._words)}
        return turn | {"reasoning_content": "\n".join(self._thoughts) or None, "tool_calls": self._calls}


def holds_call_parts(turn: Row) -> bool:
    """Whether a turn's content has a call among its parts, as tinker and LLaMA-Factory's v1 write them."""
    content = turn.get("content")
    return isinstance(content, list) and any(
        isinstance(part, dict) and part.get("type") == "tool_call" for part in content
    )


def holds_function_calls(row: Row) -> bool:
    """Whether an assistant's turn has calls in the way of AllenAI's sets."""
    return any(isinstance(turn.get("function_calls"), str) and turn["function_calls"] for turn in row["messages"])
