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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, Annotated, Any, Literal, NamedTuple, get_args

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
from pydantic_core import from_json

from data.errors import UserError, nearest
from data.files import whole_file

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


MAX_DEPTH = 150
"""Levels of nesting that are read. Readers of JSON give up at some hundreds, each at another number."""

NotJsonKind = Literal["encoding", "syntax", "constant", "duplicate_key", "number", "depth", "surrogate"]


@dataclass(frozen=True)
class BadLine:
    """One line that is not a record, and why."""

    path: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.reason}"


class NotJson(ValueError):
    """Bytes or text that are not strict JSON. `kind` says in one word what is wrong."""

    def __init__(self, kind: NotJsonKind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def _reject_constant(name: str) -> Any:
    raise NotJson("constant", f"{name} is not JSON")


def _finite_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise NotJson("number", f"number {text[:40]} is too large to be kept")
    return value


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise NotJson("duplicate_key", f"key {twice!r} stands twice in one object")
    return keys


# Made once: `json.loads` with hooks would build it anew for each text, which takes longer than reading a short row.
STRICT_JSON = json.JSONDecoder(
    parse_constant=_reject_constant, parse_float=_finite_float, object_pairs_hook=_reject_duplicate_keys
)


def is_deeper_than(value: Any, depth: int) -> bool:
    """Whether lists and dicts stand in each other more than `depth` levels deep."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(depth):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return bool(level)


def json_to_object(text: str) -> Any:
    """`json.loads` that refuses what could not be written back: NaN, infinities, duplicate keys, half characters, and
    what is nested deeper than `MAX_DEPTH`.

    Raises:
        NotJson: a ValueError with a one-line reason.
    """
    try:
        value = STRICT_JSON.decode(text)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()
        if text.count("{") + text.count("[") > MAX_DEPTH and is_deeper_than(value, MAX_DEPTH):
            raise NotJson("depth", f"nested deeper than {MAX_DEPTH} levels")
        return value
    except NotJson:
        raise
    except json.JSONDecodeError as error:
        raise NotJson("syntax", f"not JSON: {error.msg.removesuffix(' at')} at column {error.colno}") from None
    except UnicodeEncodeError:
        raise NotJson("surrogate", "half of a surrogate pair (\\ud800 to \\udfff) is no character") from None
    except RecursionError:
        raise NotJson("depth", f"nested deeper than {MAX_DEPTH} levels") from None
    except ValueError:  # Python reads no integer of more than 4,300 digits
        raise NotJson("number", "a number of thousands of digits is too large to be kept") from None


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


class Fault(NamedTuple):
    """One thing that is wrong with a value: pydantic's name for it, the field's place, the value there, and one line."""

    kind: str
    where: str
    value: Any
    reason: str


def validation_faults(
    error: ValidationError, model: type[BaseModel], *, show: Callable[[Any], str] = repr
) -> list[Fault]:
    """The faults of a pydantic error, one for each field, the most telling first. `show` writes a value down."""
    faults: dict[str, Fault] = {}
    # An unknown name first: where one is misspelt, the right one is missing too, and its neighbour says more than the gap.
    for fault in sorted(error.errors(include_url=False), key=lambda fault: fault["type"] != "extra_forbidden"):
        # Pydantic puts the name of a union's branch into the place, such as "dict[str,...]"; nobody wrote that.
        where = ".".join(str(part) for part in fault["loc"] if "[" not in str(part)) or "record"
        if fault["type"] == "extra_forbidden":
            *place, name = fault["loc"]
            reason = f"field {where!r} is unknown.{nearest(str(name), _field_names_at(model, place))}"
        elif fault["type"] == "missing":
            reason = f"field {where!r} is missing"
        elif fault["type"] == "value_error" and not fault["loc"]:
            reason = fault["msg"].removeprefix("Value error, ")  # says itself which fields do not go together
        else:
            hint = ""
            if fault["type"] == "enum" and isinstance(fault["input"], str):
                names = fault["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
                names += {"category": KOREAN_CATEGORIES, "outcome": KOREAN_OUTCOMES}.get(where.rpartition(".")[2], {})
                hint = nearest(fault["input"], names)
            shown = show(fault["input"])
            shown = shown if len(shown) <= 80 else shown[:77] + "..."
            reason = f"field {where!r}: {fault['msg'].removeprefix('Value error, ')}, got {shown}.{hint}"
        faults.setdefault(where, Fault(fault["type"], where, fault["input"], reason))
    return list(faults.values())


def describe_validation_error(error: ValidationError, model: type[BaseModel]) -> str:
    """The first fault of a pydantic error as one line, and how many more there are."""
    first, *others = validation_faults(error, model)
    return first.reason + (f" (and {len(others)} more)" if others else "")


_ODD = -(2**62)
"""Makes a sum of keys that no line can have, so that the slow reader decides."""


def _keys_in(value: Any) -> int:
    """How many keys all objects of a value have."""
    keys, items = (len(value), value.values()) if type(value) is dict else (0, value)
    for item in items:
        kind = type(item)
        if kind is str:
            continue
        if kind is dict or kind is list:
            keys += _keys_in(item)
        elif kind is float and math.isinf(item):
            return _ODD
    return keys


def json_line_to_object(line: bytes) -> Any:
    """One line of a JSON Lines file, in the strict way of `json_to_object`.

    Most lines are read by pydantic's reader, which is three times as fast and as strict but for numbers that are too large
    and for keys that stand twice. Each key that was written has its colon, so a line with as many colons as the value has keys
    has none twice. Where texts hold colons too, `":` is counted instead, if no space stands before a colon. All other lines,
    and all that are refused, go the slow way, which decides and says what is wrong.

    Raises:
        NotJson: a ValueError with a one-line reason.
    """
    line = line.rstrip(b"\r\n")
    try:
        value = from_json(line, allow_inf_nan=False, cache_strings="keys")
    except ValueError:
        value = None
    if type(value) is dict or type(value) is list:
        keys = _keys_in(value)
        if line.count(b":") == keys or (
            line.count(b'":') == keys
            # Inside a text a tab or a line break would not be JSON, so they stand between its parts.
            and not (b"\t" in line or b"\r" in line or b"\n" in line or b" :" in line)
        ):
            return value
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotJson("encoding", f"not UTF-8: byte {error.start} of the line") from None
    return json_to_object(text)


LONGEST_LINE_BYTES = 2**26
"""Beyond 64 MiB a line is refused, so that a file that is one endless line does not fill the memory."""


def bounded_lines(path: str | Path, file: IO[bytes]) -> Iterator[bytes]:
    """The lines of an open file with their ends.

    Raises:
        UserError: at a line of more than `LONGEST_LINE_BYTES`.
    """
    number = 0
    while line := file.readline(LONGEST_LINE_BYTES + 1):
        number += 1
        if len(line) > LONGEST_LINE_BYTES:
            raise UserError(f"{path}:{number}: a line of more than {LONGEST_LINE_BYTES >> 20} MiB")
        yield line


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
        for number, raw in enumerate(bounded_lines(path, file), start=1):
            if not raw.strip():
                continue
            try:
                yield number, json_line_to_object(raw)
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
