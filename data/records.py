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

import re
import unicodedata
from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

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

from core.config import describe_validation_error
from core.errors import UserError
from core.files import whole_file
from core.json_lines import BadLine, read_jsonl

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
    count = 0
    with whole_file(Path(path)) as file:
        for record in records:
            file.write(record.to_json().encode() + b"\n")
            count += 1
    return count


def trajectory_json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of one record, as committed in docs/trajectory.schema.json."""
    schema = Trajectory.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["$comment"] = f"schema version {SCHEMA_VERSION}; generated by `python -m data schema`"
    return schema
