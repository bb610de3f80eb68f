"""The public record: one trajectory of an agent using tools, one JSON object per line.

This is the wire schema that contributors write and the benchmark emits. It is strict on purpose: a record that loads
here loads everywhere else. The JSON Schema in docs/trajectory.schema.json is generated from these classes
(`python -m data schema`), never written by hand.

Example, shortened::

    {"id": "files-7", "category": "file-ops", "timestamp": "2026-11-21T09:00:00Z",
     "environment": {"name": "files", "version": "1"}, "tool": "files",
     "action_sequence": [{"command": "read_file", "input": {"path": "a.csv"}, "output": null, "error": "not found",
                          "start_time": "2026-11-21T09:00:00Z", "end_time": "2026-11-21T09:00:01Z"}],
     "outcome": "failure", "metadata": {"instruction": "...", "tools": [], "answer": null}}
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    WithJsonSchema,
)

from data.errors import UserError, nearest

SCHEMA_VERSION = "1.0.0"

INVALID_CALL = "invalid_call"
"""`Action.command` of a model turn that held no readable call; `Action.input["text"]` is what the model wrote."""


class Category(StrEnum):
    """The five kinds of tool work. The Korean names are accepted on input and written back in English."""

    CODE_EXECUTION = "code-execution"
    WEB = "web"
    API_ORCHESTRATION = "api-orchestration"
    FILE_OPS = "file-ops"
    OTHER = "other"


class Outcome(StrEnum):
    """How the task ended, judged from the final state of the world."""

    SUCCESS = "success"
    FAILURE = "failure"
    PARTIAL = "partial"


KOREAN_CATEGORIES = {
    "코드실행": Category.CODE_EXECUTION,
    "웹상호작용": Category.WEB,
    "API오케스트레이션": Category.API_ORCHESTRATION,
    "파일작업": Category.FILE_OPS,
    "기타": Category.OTHER,
}
KOREAN_OUTCOMES = {
    "성공": Outcome.SUCCESS,
    "실패": Outcome.FAILURE,
    "부분": Outcome.PARTIAL,
    "부분성공": Outcome.PARTIAL,
}


def _plain(value: str) -> str:
    # Some systems write Korean syllables as their parts (NFD); both are the same name.
    return unicodedata.normalize("NFC", value).replace(" ", "")


def _category_from_korean(value: object) -> object:
    return KOREAN_CATEGORIES.get(_plain(value), value) if isinstance(value, str) else value


def _outcome_from_korean(value: object) -> object:
    return KOREAN_OUTCOMES.get(_plain(value), value) if isinstance(value, str) else value


_TIME_WITH_ZONE = r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?([Zz]|[+-]\d{2}:?\d{2})$"


def _only_written_time(value: object) -> object:
    # Pydantic would read 0 and "0" as 1970; a record says its times in full or is wrong.
    if isinstance(value, datetime) or (isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\d", value)):
        return value
    raise ValueError("a time is ISO 8601 text with its zone, such as 2026-11-21T09:00:00Z")


Timestamp = Annotated[
    AwareDatetime,
    BeforeValidator(_only_written_time),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": _TIME_WITH_ZONE}),
]
CategoryName = Annotated[
    Category,
    BeforeValidator(_category_from_korean),
    WithJsonSchema({"type": "string", "enum": [*Category, *KOREAN_CATEGORIES]}),
]
OutcomeName = Annotated[
    Outcome,
    BeforeValidator(_outcome_from_korean),
    WithJsonSchema({"type": "string", "enum": [*Outcome, *KOREAN_OUTCOMES]}),
]
Weight = Annotated[float, Field(ge=0, le=1, strict=True)]


class Environment(BaseModel):
    """Where the actions ran: enough to run them again."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    name: str = Field(min_length=1)
    version: str | None = None
    details: dict[str, JsonValue] = Field(default_factory=dict)


class Action(BaseModel):
    """One tool call and what came back. `error` is null exactly when the call succeeded."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    command: str = Field(min_length=1)
    """Name of the tool that was called, or `INVALID_CALL`."""
    input: dict[str, JsonValue] | str
    """Arguments as written; a string where the tool takes one command line."""
    output: JsonValue = None
    error: str | None = None
    start_time: Timestamp
    end_time: Timestamp
    turn: Annotated[int, Field(ge=0, strict=True)] | None = None
    """Actions with the same turn were called in parallel by one assistant message; null means a message of its own."""
    text: str | None = None
    """What the assistant said beside the call."""
    reasoning: str | None = None
    """What the assistant thought before the call."""
    weight: Weight | None = None
    """Loss weight of the turn; null lets the converter decide (failed steps 0, others 1)."""


def _no_parameters() -> dict[str, JsonValue]:
    return {"type": "object", "properties": {}}


class ToolFunction(BaseModel):
    """A callable tool as every chat template knows it: name, description, JSON Schema of the parameters."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    name: str = Field(min_length=1)
    description: str = ""
    parameters: dict[str, JsonValue] = Field(default_factory=_no_parameters)


class ToolSpec(BaseModel):
    """OpenAI's wrapping of a function tool; the shape that `apply_chat_template(tools=...)` takes."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    type: Literal["function"] = "function"
    function: ToolFunction


class Advice(BaseModel):
    """What the expert would have done at `step`, from that very state of the world (`benchmark run --advise`)."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    step: int = Field(ge=0, strict=True)
    """Index into `action_sequence` of the failed action; its length when the premature final answer is what failed."""
    command: str | None
    """Name of the tool to call, or null when the expert would have answered."""
    input: dict[str, JsonValue] = Field(default_factory=dict)
    answer: str | None = None


class Metadata(BaseModel):
    """What training and replay need beside the actions. Further keys are kept as they are."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    instruction: str | None = None
    """The user's request; a record without one is valid, but cannot be trained on."""
    system: str | None = None
    tools: list[ToolSpec] = Field(default_factory=list)
    answer: str | None = None
    """The assistant's final words, or null when it never came to them."""
    answer_reasoning: str | None = None
    language: str | None = None
    source: str | None = None
    licence: str | None = None
    group: str | None = None
    """Records of one task; a group never stands on both sides of a train/validation split."""
    advice: list[Advice] = Field(default_factory=list)


class Trajectory(BaseModel):
    """The public record. Exactly these eight fields; everything else belongs into `metadata`."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    id: str = Field(min_length=1)
    category: CategoryName
    timestamp: Timestamp
    environment: Environment
    tool: str = Field(min_length=1)
    """The toolset in use, e.g. `files`; the definitions stand in `metadata.tools`."""
    action_sequence: list[Action]
    outcome: OutcomeName
    metadata: Metadata = Field(default_factory=Metadata)

    def to_json(self) -> str:
        """One line of JSON Lines: UTF-8 text, no null-filled keys in free-form parts, no trailing newline."""
        return self.model_dump_json(exclude_unset=False, exclude_none=False)


@dataclass(frozen=True)
class BadLine:
    """One line that is not a record, and why."""

    path: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.reason}"


def _reject_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"number {text} is too large to be kept")
    return value


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {twice!r} stands twice in one object")
    return keys


def json_to_object(text: str) -> Any:
    """`json.loads` that refuses what could not be written back: NaN, infinities, duplicate keys, half characters.

    Raises:
        ValueError: with a one-line reason.
    """
    try:
        value = json.loads(
            text,
            parse_constant=_reject_constant,
            parse_float=_finite_float,
            object_pairs_hook=_reject_duplicate_keys,
        )
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg.removesuffix(' at')} at column {error.colno}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair (\\ud800 to \\udfff) is no character") from None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that a type such as `list[Action]` or `Metadata | None` is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _field_names_at(model: type[BaseModel], place: Iterable[int | str]) -> list[str]:
    """The field names known at a place such as ("action_sequence", 0)."""
    models = [model]
    for part in place:
        if isinstance(part, str):
            models = [
                m
                for outer in models
                if part in outer.model_fields
                for m in _models_in(outer.model_fields[part].annotation)
            ]
    return [name for m in models for name in m.model_fields]


def describe_validation_error(error: ValidationError, model: type[BaseModel]) -> str:
    """The first fault of a pydantic error as one line: field, value, what was expected, the nearest right name."""
    # An unknown name first: where one is misspelt, the right one is missing too, and its neighbour says more than the gap.
    faults = sorted(error.errors(include_url=False), key=lambda fault: fault["type"] != "extra_forbidden")
    fault = faults[0]
    # Pydantic puts the name of a union's branch into the place, such as "dict[str,...]"; nobody wrote that.
    where = ".".join(str(part) for part in fault["loc"] if "[" not in str(part)) or "record"
    shown = repr(fault["input"])
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    if fault["type"] == "extra_forbidden":
        *place, name = fault["loc"]
        hint = nearest(str(name), _field_names_at(model, place))
        return f"field {where!r} is unknown.{hint}{more}"
    if fault["type"] == "missing":
        return f"field {where!r} is missing{more}"
    hint = ""
    if fault["type"] == "enum" and isinstance(fault["input"], str):
        hint = nearest(fault["input"], fault["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", "))
    return f"field {where!r}: {fault['msg'].removeprefix('Value error, ')}, got {shown}.{hint}{more}"


def read_jsonl(path: str | Path) -> Iterator[tuple[int, Any | BadLine]]:
    """Lines of a JSON Lines file as (line number from 1, object or BadLine). Blank lines are skipped.

    Raises:
        UserError: if the file cannot be opened.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed by the with below; split so that only opening is guarded
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    with file:
        for number, raw in enumerate(file, start=1):
            if not raw.strip():
                continue
            try:
                yield number, json_to_object(raw.rstrip(b"\r\n").decode("utf-8"))
            except UnicodeDecodeError as error:
                yield number, BadLine(str(path), number, f"not UTF-8: byte {error.start} of the line")
            except ValueError as error:
                yield number, BadLine(str(path), number, str(error))


def scan_trajectories(path: str | Path) -> Iterator[Trajectory | BadLine]:
    """Every line as a Trajectory or as a BadLine that says what is wrong; ids must be unique within the file."""
    first_line_of: dict[str, int] = {}
    for number, value in read_jsonl(path):
        if isinstance(value, BadLine):
            yield value
            continue
        if not isinstance(value, dict):
            yield BadLine(str(path), number, f"a record is a JSON object, got {type(value).__name__}")
            continue
        try:
            record = Trajectory.model_validate(value)
        except ValidationError as error:
            yield BadLine(str(path), number, describe_validation_error(error, Trajectory))
            continue
        if record.id in first_line_of:
            yield BadLine(str(path), number, f"id {record.id!r} stands already on line {first_line_of[record.id]}")
            continue
        first_line_of[record.id] = number
        yield record


def read_trajectories(path: str | Path) -> Iterator[Trajectory]:
    """Records of a file that must be clean.

    Raises:
        UserError: at the first bad line, naming file:line and the reason.
    """
    for record in scan_trajectories(path):
        if isinstance(record, BadLine):
            raise UserError(str(record))
        yield record


def write_trajectories(path: str | Path, records: Iterable[Trajectory]) -> int:
    """Write records as JSON Lines; returns how many."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with open(path, "w", encoding="utf-8") as file:
        for record in records:
            file.write(record.to_json() + "\n")
            count += 1
    return count


def trajectory_json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of one record, as committed in docs/trajectory.schema.json."""
    schema = Trajectory.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["$comment"] = f"schema version {SCHEMA_VERSION}; generated by `python -m data schema`"
    return schema
