"""ToolAlpaca (Tang et al. 2023, arXiv 2306.05301): one row an API with all of its instances -> a list of Chats.

`Instances` hold a question (`input`), steps of [[action, action input, log], observation], a `Final Thought` and the answer
(`output`); the log is the model's own text, whose thought stands before "Action:". Thoughts become `reasoning_content`.
Rows of the evaluation files have `Instructions` with `Golden_Answers` instead: one golden call becomes a chat that ends with
it; several golden calls follow each other and their results were not recorded, so they are left out.

Tools come from `Function_Description`, where the parameters are sentences ("Required. integer. The page."); a type that is
no word of JSON Schema stays in the description. `getDetails`, with which the model asks the user, is a tool of every API.
"""

from __future__ import annotations

import re
from itertools import zip_longest
from typing import Any

from data.chats import Chat, Skip
from data.formats.adapter import Adapter, Terms
from data.formats.json_schema import parameters_to_schema, type_to_schema
from data.formats.parts import Conversation, Row, Unrepresentable, arguments_of, row_id, with_columns
from data.records import ToolFunction, ToolSpec

_PARAMETERS = re.compile(r"^Parameters:[ \t]*(\{.*\})[ \t]*$\n?", re.MULTILINE)
_REQUIRED = re.compile(r"\ARequired\.\s*", re.IGNORECASE)
_OPTIONAL = re.compile(r"\AOptional\.\s*", re.IGNORECASE)
_THOUGHT = re.compile(r"\A\s*(?:ASSISTANT )?(?:Thought:)?\s*(.*?)\s*(?:ASSISTANT )?Action:", re.DOTALL)
_HINT = "\nHint: "

_GET_DETAILS = ToolSpec(
    function=ToolFunction(
        name="getDetails",
        description="Ask the user for details that are missing.",
        parameters={
            "type": "object",
            "properties": {"Question": {"type": "string", "description": "What to ask."}},
            "required": ["Question"],
        },
    )
)


def _parameter(text: str) -> tuple[dict[str, Any], bool]:
    """A parameter's sentence as a schema, and whether it is required."""
    required = _REQUIRED.match(text) is not None
    text = _OPTIONAL.sub("", _REQUIRED.sub("", text))
    kind, dot, rest = text.partition(".")
    schema = type_to_schema(kind)
    if schema is None:
        return {"description": text.strip()}, required
    return ({**schema, "description": rest.strip()} if dot and rest.strip() else schema), required


def _tool_of(name: str, text: str) -> ToolSpec:
    found = _PARAMETERS.search(text)
    parameters: dict[str, Any] = {}
    if found:
        for key, told in arguments_of(found[1]).items():
            if not isinstance(told, str):
                raise Unrepresentable("a tool's parameters in an unknown style")
            schema, required = _parameter(told)
            parameters[key] = {**schema, "required": required}
        text = text[: found.start()] + text[found.end() :]
    schema = parameters_to_schema(parameters) if parameters else {"type": "object", "properties": {}}
    return ToolSpec(function=ToolFunction(name=name, description=text.strip(), parameters=schema))


def _tools_of(row: Row) -> tuple[ToolSpec, ...]:
    told = row.get("Function_Description")
    if not isinstance(told, dict) or not all(isinstance(text, str) for text in told.values()):
        raise Unrepresentable("column 'Function_Description' is no object of texts")
    texts = {name: text for name, text in told.items() if name != "components"}
    if texts and told.get("components"):  # what the types in the texts stand for; the publisher puts it there too
        texts[next(reversed(texts))] += f"\n{told['components']}"
    return (_GET_DETAILS, *(_tool_of(name, text) for name, text in texts.items()))


def _instance_to_chat(instance: Any, tools: tuple[ToolSpec, ...], *, id: str, group: str) -> Chat:
    if not isinstance(instance, dict) or not isinstance(instance.get("input"), str):
        raise Unrepresentable("an instance without a question")
    steps, output = instance.get("intermediate_steps"), instance.get("output")
    if not isinstance(steps, list) or not steps:
        raise Unrepresentable("no step was taken")
    if not isinstance(output, str):
        raise Unrepresentable("an instance without an answer")
    conversation = Conversation()
    conversation.say("user", instance["input"].rsplit(_HINT, 1)[0])
    for step in steps:
        try:
            (action, action_input, log), observation = step
        except (TypeError, ValueError):
            raise Unrepresentable("a step that is no [[action, input, log], observation]") from None
        if not all(isinstance(part, str) for part in (action, log, observation)):
            raise Unrepresentable("a step that is no [[action, input, log], observation]")
        thought = _THOUGHT.match(log)
        reasoning = thought[1] if thought else None
        conversation.say(
            "assistant", "", reasoning=reasoning or None, calls=[(None, action, arguments_of(action_input))]
        )
        conversation.answer(observation)
    final = instance.get("Final Thought")
    conversation.say("assistant", output, reasoning=final if isinstance(final, str) and final else None)
    return conversation.chat(id=id, tools=tools, group=group)


def _golden_to_chat(question: Any, golden: Any, tools: tuple[ToolSpec, ...], *, id: str, group: str) -> Chat:
    if not isinstance(question, str) or not isinstance(golden, list) or not golden:
        raise Unrepresentable("an instruction without a golden answer")
    if len(golden) > 1:
        raise Unrepresentable("several golden calls without their results")
    call = golden[0]
    if not isinstance(call, dict) or not isinstance(call.get("Action"), str):
        raise Unrepresentable("a call without a name")
    conversation = Conversation()
    conversation.say("user", question)
    conversation.say("assistant", "", calls=[(None, call["Action"], arguments_of(call.get("Action_Input")))])
    return conversation.chat(id=id, tools=tools, group=group)


def toolalpaca_row(row: Row) -> list[Chat | Skip]:
    """All chats of one API. They are one group, because they share their tools."""
    name = row_id(row, "Name")
    try:
        tools = _tools_of(row)
    except Unrepresentable as reason:
        return [Skip(str(reason))]
    makers: list[tuple[Any, ...]] = []
    if isinstance(instances := row.get("Instances"), list):
        makers = [(_instance_to_chat, instance) for instance in instances]
    elif isinstance(asked := row.get("Instructions"), list) and isinstance(golden := row.get("Golden_Answers"), list):
        makers = [(_golden_to_chat, *both) for both in zip_longest(asked, golden)]
    results: list[Chat | Skip] = []
    for number, (maker, *arguments) in enumerate(makers):
        try:
            results.append(maker(*arguments, tools, id=f"{name}#{number}", group=name))
        except Unrepresentable as reason:
            results.append(Skip(str(reason)))
    return results or [Skip("neither Instances nor Golden_Answers")]


ADAPTERS = (
    Adapter(
        name="toolalpaca",
        kind="chat",
        function=toolalpaca_row,
        columns=("Function_Description", "Instances", "Instructions", "Golden_Answers", "Name"),
        matches=with_columns("Function_Description", "NLDocumentation", "Instructions"),
        turns=("Instances",),
        turn_keys=frozenset({"input", "output", "intermediate_steps", "Final Thought"}),
        schema="real rows",
        note="tangqiaoyu/ToolAlpaca on GitHub: one row an API. Several golden calls without results are left out.",
        terms=Terms(licence="apache-2.0", openai_derived=True),
    ),
)
