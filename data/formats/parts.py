"""The parts that public chat formats share: JSON in text, tool definitions, and results matched to calls.

An adapter reads a row with these parts and stops at the first thing that a `Chat` cannot hold by raising
`Unrepresentable`; the row then becomes a `Skip` with that reason. Nothing is ever guessed or repaired here.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import wraps
from itertools import chain, count
from typing import Any, Concatenate, Literal, NamedTuple, ParamSpec, TypeVar

from pydantic import ValidationError
from pydantic_core import to_json

from core.json_lines import json_to_object
from data.chats import Chat, Message, Skip, ToolCall
from data.formats.json_schema import parameters_to_schema
from data.formats.judgements import is_nothing, to_weight
from data.formats.row_keys import WEIGHT_DETAILS, WEIGHT_KEYS, Row
from data.formats.streams import stream_to_response
from data.records import Outcome, ToolFunction, ToolSpec
from data.rendering.assistant_text import split_reasoning


class Unrepresentable(Exception):
    """This row holds something that a `Chat` cannot; the text is the reason of the `Skip`, without row details."""


Made = TypeVar("Made")
Options = ParamSpec("Options")


def skip_if_unrepresentable(
    convert: Callable[Concatenate[Row, Options], Made],
) -> Callable[Concatenate[Row, Options], Made | Skip]:
    """Turn the exception into a `Skip`, so that the rows of a source can be counted."""

    @wraps(convert)
    def row_to_result(row: Row, *args: Options.args, **options: Options.kwargs) -> Made | Skip:
        try:
            return convert(row, *args, **options)
        except Unrepresentable as reason:
            return Skip(str(reason))
        except ValidationError:  # what JSON has no word for, such as a date or NaN in a column of Parquet
            return Skip("a value that a chat cannot hold")

    return row_to_result


class LoggedRun(NamedTuple):
    """A recorded run of an agent with all that its format tells of it, before anybody asks which runs are imitated."""

    chat: Chat
    outcome: Outcome
    failed: frozenset[str]
    """Ids of the chat's calls whose results say that they failed."""
    ended: dict[str, datetime]
    """When the results came in, by the id of the call; empty where the format has no times."""


RowCall = tuple[str | None, str, dict[str, Any]]
"""A call as a row holds it: its id where it has one, the name, the arguments."""


class Fit(NamedTuple):
    """That rows are of a format. Of several fits the one with the most `columns` is the most specific and wins."""

    columns: int
    """How many columns show it."""
    reason: str
    showing: frozenset[int] = frozenset()
    """Places of the rows that show something that only this format has. One that it cannot hold is not kept by another format
    either, which would take that for text."""


COLUMNS_THAT_SHOW = 4
"""So many columns of one format are no chance."""


def with_columns(*columns: str) -> Callable[[Sequence[Row]], Fit | None]:
    """The simplest `Adapter.matches`: most of the rows have all these columns, whatever they hold."""
    names = frozenset(columns)

    def matches(rows: Sequence[Row]) -> Fit | None:
        having = frozenset(place for place, row in enumerate(rows) if names <= row.keys())
        if 2 * len(having) <= len(rows):
            return None
        reason = f"{len(having)} of {len(rows)} rows" + (f" have {', '.join(columns)}" if columns else "")
        return Fit(len(names), reason, having if len(names) >= COLUMNS_THAT_SHOW else frozenset())

    return matches


def with_content(*columns: str, holds: Callable[[Row], bool], what: str) -> Callable[[Sequence[Row]], Fit | None]:
    """`with_columns` for a format that its columns alone do not show: at least one row also `holds` something of it. What
    was found counts as one column more, so that it wins over a format that needs the columns only."""
    has_columns = with_columns(*columns)

    def shows(row: Row) -> bool:
        try:
            return holds(row)
        except (Unrepresentable, TypeError, AttributeError, KeyError, IndexError, ValueError):  # of another format
            return False

    def matches(rows: Sequence[Row]) -> Fit | None:
        fit = has_columns(rows)
        showing = frozenset(place for place, row in enumerate(rows) if shows(row)) if fit else frozenset()
        return Fit(fit.columns + 1, f"{fit.reason}, {len(showing)} show {what}", showing) if fit and showing else None

    return matches


def first_fit(*ways: Callable[[Sequence[Row]], Fit | None]) -> Callable[[Sequence[Row]], Fit | None]:
    """`Adapter.matches` of a format that is written in several ways: the first that fits."""
    return lambda rows: next((fit for matches in ways if (fit := matches(rows)) is not None), None)


def row_id(row: Row, *columns: str) -> str:
    """The row's own id in the first of `columns` that holds one (`id` where none is named); without one, a hash of its
    content, so that equal rows of any file share it, in whatever order their columns stand."""
    for column in columns or ("id",):
        own = row.get(column)
        if isinstance(own, str | int) and not isinstance(own, bool) and own != "":
            return str(own)
    return hashlib.sha256(to_json(dict(sorted(row.items())))).hexdigest()[:16]


def value_in(value: Any, if_no_json: str) -> Any:
    """A value, or the one whose JSON text it is, as exports of tables write it; a text of it again, too. Null, blank text,
    "null" and "None" are null.

    Raises:
        Unrepresentable: with `if_no_json`, where a text is none.
    """
    for _ in range(_TEXTS_IN_TEXTS):
        if not isinstance(value, str):
            return value
        if not value.strip():
            return None
        try:
            value = text_to_object(value)
        except ValueError:
            break
    raise Unrepresentable(if_no_json)


_TEXTS_IN_TEXTS = 4


def _objects(value: Any, subject: str) -> list[Row]:
    items, if_none = value_in(value, f"{subject} no JSON"), f"{subject} no list of objects"
    if isinstance(items, list) and any(isinstance(item, str) for item in items):
        items = [value_in(item, if_none) for item in items]
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        raise Unrepresentable(if_none)
    return items


def list_of_objects(row: Row, column: str) -> list[Row]:
    """The turns of a row: a list of objects with at least one in it, or the JSON text of one."""
    return _objects(row.get(column), f"column {column!r} is")


def _in_one_piece(value: Any) -> Any:
    try:
        return stream_to_response(value)
    except (ValueError, TypeError, AttributeError, KeyError):
        raise Unrepresentable("a stream that cannot be put together") from None


def request_and_response(row: Row) -> tuple[Row, Row]:
    """The request and the response of a logged row, without the `body` that a proxy or a batch wraps them in."""
    bodies = []
    for column in ("request", "response"):
        value = row.get(column) if column == "request" else _in_one_piece(row.get(column))
        value = value_in(value, f"a {column} that is no JSON")
        if isinstance(value, dict) and value.get("body") is not None:
            body = value["body"] if column == "request" else _in_one_piece(value["body"])
            value = value_in(body, f"a {column} that is no JSON")
        if not isinstance(value, dict):
            raise Unrepresentable(f"a {column} that is no object")
        bodies.append(value)
    return bodies[0], bodies[1]


SUCCESS = frozenset({Outcome.SUCCESS})
"""Outcomes that are imitated where nobody asks for others; adapters of runs take `outcomes`, as `trajectory_row` does."""


def require_outcome(succeeded: bool | None, outcomes: frozenset[Outcome]) -> None:
    """Stop at a run whose outcome is not asked for; null, where the row does not say how it ended, passes."""
    if succeeded is None:
        return
    outcome = Outcome.SUCCESS if succeeded else Outcome.FAILURE
    if outcome not in outcomes:
        raise Unrepresentable(f"outcome is {outcome}")


def text_of(content: Any) -> str:
    """A content as text: null is empty, a list of text parts is joined, anything else cannot be held. LLaMA-Factory writes the
    text of a part under `value`."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        texts = [part.get("text", part.get("value")) for part in content]
        if all(isinstance(text, str) for text in texts):
            return "".join(texts)
    raise Unrepresentable("content that is not text")


def objects_in(value: Any, what: str) -> list[Row]:
    """`list_of_objects` for what stands in no column; `what` names it in a reason."""
    return _objects(value, f"{what} are")


def weight_of(turn: Row) -> float | None:
    """The loss weight of an assistant's turn under any of its names, null where the row gives none. Where parts of the turn
    have weights of their own (axolotl), all must have the same one, which is then that of the turn."""
    told = {to_weight(turn[key]) for key in WEIGHT_KEYS if not is_nothing(turn.get(key))}
    if None in told:
        raise Unrepresentable("weight is no number from 0 to 1")
    if len(told) > 1:
        raise Unrepresentable("one turn with two weights")
    weight = told.pop() if told else None
    if not isinstance(turn.get("content"), list) and turn.keys().isdisjoint(WEIGHT_DETAILS):
        return weight
    return _weight_of_parts(turn, weight)


def _weight_of_parts(turn: Row, weight: float | None) -> float | None:
    """The weight that all parts of a turn have; one without its own has that of the turn."""
    lists = [value_in(turn.get(key), "weights that are no JSON") for key in WEIGHT_DETAILS] + [turn.get("content")]
    parts = [part for each in lists if isinstance(each, list) for part in each if isinstance(part, dict)]
    marks = [[part[key] for key in WEIGHT_KEYS if not is_nothing(part.get(key))] for part in parts]
    if not any(marks):
        return weight
    weights = {to_weight(mark) for part in marks for mark in part}
    if None in weights:
        raise Unrepresentable("weight is no number from 0 to 1")
    if not all(marks):
        weights.add(1.0 if weight is None else weight)
    if len(weights) > 1:
        raise Unrepresentable("a turn of which only a part is learned")
    return weights.pop()


def text_to_object(text: str) -> Any:
    """A value written as JSON, or as a Python literal, which is how a part of the Hermes files writes its calls.

    Raises:
        ValueError: if it is neither, or a literal that JSON cannot hold.
    """
    try:
        return json_to_object(text)
    except ValueError:
        pass
    try:
        tree = ast.parse(text.strip(), mode="eval")
        for node in ast.walk(tree):
            keys = (
                [key.value for key in node.keys if isinstance(key, ast.Constant)] if isinstance(node, ast.Dict) else []
            )
            if len(set(keys)) != len(keys):
                raise ValueError("a key stands twice in one object")
        return json_to_object(json.dumps(_only_json(ast.literal_eval(tree)), allow_nan=False))
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"neither JSON nor a literal: {error}") from None


def _only_json(value: Any) -> Any:
    # json.dumps would write a tuple as a list and the key 1 as "1", which are not what the text said.
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _only_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_only_json(item) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ValueError("a literal that JSON cannot hold")


def arguments_of(value: Any) -> dict[str, Any]:
    """Arguments of a call: an object, or the text of one. Null and blank text are a call without arguments."""
    value = value_in(value, "arguments of a call are no JSON")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Unrepresentable("arguments of a call are no object")
    return value


ARGUMENTS = ("arguments", "parameters", "args", "input", "kwargs")
"""Where calls have their arguments: OpenAI's and most others, Llama's and Hammer's, LangChain's, Anthropic's, ADP's."""
_BESIDE_ARGUMENTS = frozenset({"name", "id", "type", "index", "call_id", "tool_call_id"})


def call_in(value: Any) -> tuple[str, dict[str, Any]]:
    """Name and arguments of a call: `{"name", "arguments"}` or its JSON text. Missing arguments are none."""
    call = value_in(value, "a call that is no JSON")
    if not isinstance(call, dict) or not isinstance(call.get("name"), str) or not call["name"]:
        raise Unrepresentable("a call without a name")
    given = [key for key in ARGUMENTS if call.get(key) is not None]
    if len(given) > 1:
        raise Unrepresentable("a call with two sets of arguments")
    if not call.keys() & set(ARGUMENTS) and call.keys() - _BESIDE_ARGUMENTS:
        raise Unrepresentable("a call whose arguments have an unknown name")
    return call["name"], arguments_of(call[given[0]] if given else None)


def calls_in(value: Any) -> list[tuple[str, dict[str, Any]]]:
    """One call, or a list of parallel ones, or the JSON text of either."""
    value = value_in(value, "a call that is no JSON")
    return [call_in(call) for call in (value if isinstance(value, list) else [value])]


def _tool_of(value: Any) -> ToolSpec:
    value = value_in(value, "tools are no JSON")
    if not isinstance(value, dict):
        raise Unrepresentable("a tool definition is no object")
    if value.get("type", "function") in ("function", None):
        wrapped = value.get("function")
        value = value_in(wrapped, "tools are no JSON") if isinstance(wrapped, dict | str) and wrapped else value
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"]:
        raise Unrepresentable("a tool that is no named function")
    name, description = value["name"], value.get("description")
    if not isinstance(description, str | None):
        raise Unrepresentable("a tool's description is no text")
    styles = [key for key in ("parameters", "input_schema", "inputSchema") if key in value]
    if not styles and set(value) - {"type", "name", "description", "required", "strict"}:
        raise Unrepresentable("a tool definition in an unknown style")
    parameters = value_in(value[styles[0]], "a tool's parameters are no JSON") if styles else None
    if parameters is None:
        return ToolSpec(function=ToolFunction(name=name, description=description or ""))
    if not isinstance(parameters, dict):
        raise Unrepresentable("a tool's parameters are no object")
    try:
        schema = parameters_to_schema(parameters, value_in(value.get("required"), "a tool's parameters are no JSON"))
    except ValueError:
        raise Unrepresentable("a tool's parameters in an unknown style") from None
    return ToolSpec(function=ToolFunction(name=name, description=description or "", parameters=schema))


def _lines_in(text: str) -> Any:
    """The objects of a text that has one a line, or the text."""
    try:
        lines = [text_to_object(line) for line in text.splitlines() if line.strip()]
    except ValueError:
        return text
    return lines if all(isinstance(line, dict) for line in lines) else text


def tools_of(value: Any) -> tuple[ToolSpec, ...]:
    """Tool definitions in any usual style: OpenAI's wrapper, bare {name, description, parameters}, or Anthropic's and
    MCP's input_schema; one or a list of them, JSON text of either, a list of JSON texts, or a text of one a line. Null, blank
    and empty are none. Only name, description and parameters are copied, and parameters become JSON Schema
    (data/formats/json_schema.py)."""
    value = _lines_in(value) if isinstance(value, str) and "\n" in value.strip() else value
    value = value_in(value, "tools are no JSON")
    if value is None or value == {}:
        return ()
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        raise Unrepresentable("tools are no list")
    return tuple(_tool_of(item) for item in value)


# --- who speaks ---

SYSTEM = frozenset({"system", "developer"})
USER = frozenset({"user", "human", "prompter"})
ASSISTANT = frozenset({"assistant", "gpt", "model", "chatgpt", "bot", "ai", "agent", "bing", "bard"})
CALL = frozenset({"tool_call", "tool_calls", "function_call"})
RESULT = frozenset(
    {"tool", "function", "observation", "tool_response", "function_response", "tool_result", "ipython", "environment"}
)
"""Roles under their usual names: OpenAI's, ShareGPT's, ms-swift's, Llama's, GLM's, and those of AllenAI's sets."""

Speaker = Literal["system", "user", "assistant", "call", "result"]
_SPEAKERS: dict[str, Speaker] = {
    **dict.fromkeys(SYSTEM, "system"),
    **dict.fromkeys(USER, "user"),
    **dict.fromkeys(ASSISTANT, "assistant"),
    **dict.fromkeys(CALL, "call"),
    **dict.fromkeys(RESULT, "result"),
}


def speaker_of(role: Any) -> Speaker:
    """Who speaks in a turn of this role.

    Raises:
        Unrepresentable: for a role that is not known.
    """
    speaker = _SPEAKERS.get(role) or _SPEAKERS.get(role.strip().lower()) if isinstance(role, str) else None
    if speaker is None:
        raise unknown_role(role)
    return speaker


def unknown_role(role: Any) -> Unrepresentable:
    """The reason to leave out a row in which a role that is not known speaks."""
    if role is None:
        return Unrepresentable("a turn without a role")
    if not isinstance(role, str):
        return Unrepresentable("a role that is no text")
    return Unrepresentable(f"an unknown role {role if len(role) <= 30 else role[:29] + '…'!r}")


def _said(chat: Chat) -> tuple[list[Any], list[Any]]:
    # As JSON text, because 1 == 1.0 == True in Python. Few formats have ids, so a result names the place of its call.
    places = {call.id: place for place, call in enumerate(call for m in chat.messages for call in m.tool_calls)}
    messages = [
        (
            *(m.role, m.content, m.reasoning_content, m.weight, places.get(m.tool_call_id or "")),
            [(c.name, json.dumps(c.arguments)) for c in m.tool_calls],
        )
        for m in chat.messages
    ]
    return messages, [tool.model_dump_json() for tool in chat.tools]


def row_if_read_back(row: Row, read: Callable[[Row], Chat | Skip], chat: Chat) -> Row | Skip:
    """The row that was written for a chat, or a Skip where reading it back would give another chat."""
    back = read(row)
    if isinstance(back, Skip) or _said(back) != _said(chat):
        return Skip("the format would read it back as another chat")
    return row


def thought_and_words(reasoning: str | None, text: str) -> tuple[str | None, str]:
    """An assistant's text cut into what was thought and what was said (`split_reasoning`), where `reasoning` may be given
    beside it already."""
    try:
        thought, words = split_reasoning(text)
    except ValueError as fault:
        raise Unrepresentable(str(fault)) from None
    if thought is None or reasoning is None or not reasoning.strip():
        return thought or reasoning, words
    if reasoning.strip() != thought.strip():
        raise Unrepresentable("reasoning beside a <think> block")
    return reasoning, words


def asks_about(messages: Sequence[Message], tag: str) -> bool:
    """Whether a user wrote `<tag>` or its end, so that an assistant who writes it, too, may be talking about it."""
    return any(m.role == "user" and (f"<{tag}>" in m.content or f"</{tag}>" in m.content) for m in messages)


def with_reasoning(messages: Sequence[Message], before: Sequence[Message] = ()) -> tuple[Message, ...]:
    """Messages whose `<think>` blocks have become reasoning, for adapters that hand texts on as they are. Where a user
    `asks_about` the tag, in `before` or up to a turn, its text stays."""
    made: list[Message] = []
    for message in messages:
        is_written = message.role == "assistant" and "think>" in message.content
        if is_written and not asks_about([*before, *made], "think"):
            reasoning, words = thought_and_words(message.reasoning_content, message.content)
            message = message.model_copy(update={"reasoning_content": reasoning, "content": words})
        made.append(message)
    return tuple(made)


class Conversation:
    """A chat in the making: turns are said one after the other, and results find the calls they answer.

    A call keeps the id that it has in the row. One without an id, or with that of an earlier call, gets that of its place:
    call_0, call_1.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._open: list[tuple[str | None, ToolCall]] = []
        self._places: dict[str, int] = {}  # of all calls, by id
        self.tools: tuple[ToolSpec, ...] = ()
        """Definitions that stood in what was said, such as a system prompt's; used where the row has no others."""
        self._answered: list[int] = []  # numbers of the turn's answered calls, in the order of their results
        self._by_order = False  # whether one of them was told by its place alone

    def say(
        self,
        role: str,
        content: str,
        *,
        weight: float | None = None,
        reasoning: str | None = None,
        calls: Sequence[tuple[str | None, str, dict[str, Any]]] = (),
    ) -> None:
        """Add a turn; `calls` are (id in the row or None, name, arguments)."""
        if self._open:
            raise Unrepresentable("a call without its result")
        self._check_order()
        self._answered = []
        if role == "system" and self.messages:
            raise Unrepresentable("a system message that is not the first")
        ids = [own_id for own_id, _, _ in calls if own_id is not None]
        if len(set(ids)) != len(ids):
            raise Unrepresentable("two calls of one id in one turn")
        self._open = [(own_id, self._call(own_id, name, arguments)) for own_id, name, arguments in calls]
        self.messages.append(
            Message(
                role=role,  # type: ignore[arg-type]  # checked by pydantic
                content=content,
                weight=weight,
                reasoning_content=reasoning,
                tool_calls=tuple(call for _, call in self._open),
            )
        )

    def call_too(self, name: str, arguments: dict[str, Any], *, weight: float | None) -> None:
        """Add a call to the assistant's last turn, where a format writes the text and calls of a turn one by one."""
        last = self.messages[-1] if self.messages else None
        if last is None or last.role != "assistant" or len(self._open) != len(last.tool_calls):
            self.say("assistant", "", weight=weight, calls=[(None, name, arguments)])
            return
        if last.weight != weight:
            raise Unrepresentable("one turn with two weights")
        call = self._call(None, name, arguments)
        self._open.append((None, call))
        self.messages[-1] = last.model_copy(update={"tool_calls": (*last.tool_calls, call)})

    @property
    def waits(self) -> bool:
        """Whether a call has no result yet."""
        return bool(self._open)

    @property
    def waiting(self) -> list[tuple[str | None, str]]:
        """Id in the row and name of each call that has no result yet."""
        return [(own_id, call.name) for own_id, call in self._open]

    @property
    def has_results(self) -> bool:
        """Whether a call of this turn has its result already."""
        return bool(self._answered)

    def answer(self, content: str, *, own_id: str | None = None, name: str | None = None) -> ToolCall:
        """Add a result, and return the call that it answers: that of its id, else the only open one of its name, else the
        next one. Results that only their order tells must answer all calls of a turn, in their order."""
        if not self._open:
            raise Unrepresentable("a result without its call")
        named = [place for place, (_, call) in enumerate(self._open) if call.name == name]
        place = 0
        if own_id and any(known is not None for known, _ in self._open):
            known_ids = [known for known, _ in self._open]
            if own_id not in known_ids:
                raise Unrepresentable("a result of an unknown call")
            place = known_ids.index(own_id)
        elif len(named) == 1:
            place = named[0]
        elif len(self._open) > 1:
            place = named[0] if named else 0
            self._by_order = True
        _, call = self._open[place]
        if name and name != call.name:
            raise Unrepresentable("a result under another tool's name")
        del self._open[place]
        self._answered.append(self._places[call.id])
        self.messages.append(Message(role="tool", content=content, tool_call_id=call.id, name=call.name))
        return call

    def _check_order(self) -> None:
        """Where the place of a result told its call, all results of the turn must stand in order and be there."""
        if self._by_order and (self._open or self._answered != sorted(self._answered)):
            raise Unrepresentable("results that do not say which call they answer")
        self._by_order = False

    def chat(self, *, id: str, tools: Sequence[ToolSpec] = (), group: str | None = None, source: str = "") -> Chat:
        """What was said, as a chat; `source` is the row's own name of its part, as `data.formats.catalogue` wants it."""
        if not any(message.role == "assistant" for message in self.messages):
            raise Unrepresentable("no word of an assistant")
        messages = tuple(self.finished())
        return Chat(messages=messages, tools=tuple(tools) or self.tools, id=id, source=source, group=group)

    def finished(self) -> list[Message]:
        """What was said, when nothing more is."""
        self._check_order()
        return self.messages

    def _call(self, own_id: str | None, name: str, arguments: dict[str, Any]) -> ToolCall:
        if not name:
            raise Unrepresentable("a call without a name")
        place = len(self._places)
        made = (f"call_{number}" for number in count(place))
        id = next(free for free in chain([own_id] if own_id else [], made) if free not in self._places)
        self._places[id] = place
        return ToolCall(id=id, name=name, arguments=arguments)
