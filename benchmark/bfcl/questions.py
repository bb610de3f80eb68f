"""The single-turn AST categories of the Berkeley Function Calling Leaderboard: questions and a scorer of ours.

A question goes to the model with its functions as tools; what the model calls is compared with the gold calls. Nothing is
executed and nobody judges. The strict score is the package's own (`ast_checker` of bfcl-eval 2026.3.23), re-told in a page;
tests/test_bfcl.py compares the two on every gold answer and on wrong ones made from it. docs/bfcl.md defines each number.

Example::

    items = read_items(find_data(), ["multiple"])
    predictions, _ = read_predictions(Path("predictions.jsonl"), items)
    score_items(items, predictions)["multiple"]["strict"]  # Kpi(value=0.62, low=0.55, high=0.68, n=200)

Paper: Patil et al. 2025, "The Berkeley Function Calling Leaderboard (BFCL)", ICML 2025. The data is Apache-2.0.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from benchmark.kpis import bootstrap_mean, wilson
from core.config import describe_validation_error
from core.errors import UserError, nearest
from core.json_lines import BadLine, read_jsonl
from data.chats import Message, check_messages
from data.formats.parts import Unrepresentable, tools_of
from data.records import ToolSpec
from data.wire import Kpi

Line = TypeVar("Line", bound=BaseModel)

PACKAGE = "bfcl-eval"
INSTALL = "pip install --no-deps bfcl-eval==2026.3.23"

CATEGORIES = (
    *("simple_python", "multiple", "parallel", "parallel_multiple", "irrelevance"),
    *("live_simple", "live_multiple", "live_parallel", "live_parallel_multiple", "live_irrelevance", "live_relevance"),
)

WANT_CALLS, WANT_NONE = "all that want calls", "all that want none"

TYPES: dict[str, type] = {
    "string": str,
    "integer": int,
    "float": float,
    "boolean": bool,
    "array": list,
    "tuple": list,
    "dict": dict,
    "any": str,
}
"""BFCL's names of types, and what a value read from JSON has to be."""


class _Parameters(BaseModel):
    properties: dict[str, dict[str, JsonValue]]
    required: list[str]


class _Function(BaseModel):
    name: str = Field(min_length=1)
    parameters: _Parameters


class _Row(BaseModel):
    id: str = Field(min_length=1)
    question: list[list[dict[str, JsonValue]]] = Field(min_length=1, max_length=1)
    function: list[dict[str, JsonValue]]
    """May be empty: some questions of live_irrelevance offer no function at all."""


class _Answer(BaseModel):
    id: str
    ground_truth: list[dict[str, dict[str, list[JsonValue]]]]


class PredictedCall(BaseModel):
    """One call of a prediction, under the name that the data has for the function."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    arguments: dict[str, JsonValue]


class Prediction(BaseModel):
    """What a model said to one question; the line of a predictions file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    calls: tuple[PredictedCall, ...] = ()
    text: str = ""
    """The words beside the calls, or all of a turn that could not be read. Not scored."""
    unreadable: str | None = None
    """Why the turn could not be read; null where it could."""
    run: str | None = None
    """Which model and options it was made with, so that a broken-off run goes on with its own lines only."""

    @model_validator(mode="after")
    def _is_read_or_not(self) -> Prediction:
        if self.calls and self.unreadable is not None:
            raise ValueError("a turn that could not be read holds no calls")
        return self


class Gold(NamedTuple):
    """A call that is wanted: its function as the data defines it, and the allowed values of each argument."""

    name: str
    properties: dict[str, dict[str, Any]]
    required: list[str]
    allowed: dict[str, list[Any]]

    @property
    def must_have(self) -> set[str]:
        """Arguments that may not be left out."""
        return {*self.required, *(name for name, values in self.allowed.items() if "" not in values)}


@dataclass(frozen=True)
class Item:
    """One question."""

    id: str
    category: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    """The functions as JSON Schema, under names that every template and server takes."""
    names: dict[str, str]
    """The data's name of each tool."""
    gold: tuple[Gold, ...] | None
    """Calls that are wanted; None where any call (live_relevance) or no call (irrelevance) is."""


class Score(NamedTuple):
    """How good one prediction is. The last two are None where no gold calls exist."""

    strict: bool
    """Its calls are those that BFCL's own checker wants."""
    parsed: bool
    """The turn could be read."""
    called: bool
    """It holds a call."""
    right_names: bool | None
    """The right functions are called, each as often as it should be."""
    argument_f1: float | None


# ---- the data ----


def find_data() -> Path:
    """The data folder of the installed package, which is not imported: it would need 31 others.

    Raises:
        UserError: if it is not installed, with the command that installs it.
    """
    try:
        folder = Path(str(distribution(PACKAGE).locate_file("bfcl_eval/data")))
    except PackageNotFoundError:
        raise UserError(
            f"the questions are in the package {PACKAGE}, which is not installed: {INSTALL}\n"
            "(or name a folder with BFCL_v4_*.json and possible_answer/ by --data)"
        ) from None
    if not folder.is_dir():
        raise UserError(f"{folder}: this version of {PACKAGE} has no data there; install it anew: {INSTALL}")
    return folder


def read_items(data: Path, categories: Sequence[str], *, limit: int | None = None) -> list[Item]:
    """The questions of some categories.

    Args:
        limit: at most so many of each category, chosen by a hash of their ids; a smaller number chooses among the same.

    Raises:
        UserError: for an unknown category, or a damaged or missing file, naming file:line.
    """
    items: list[Item] = []
    for category in categories:
        if category not in CATEGORIES:
            raise UserError(
                f"there is no category {category!r}.{nearest(category, CATEGORIES)} All of them: {', '.join(CATEGORIES)}"
            )
        path = data / f"BFCL_v4_{category}.json"
        answers = {}
        if not category.endswith("relevance"):
            answers_path = data / "possible_answer" / path.name
            answers = {answer.id: answer for _, answer in _read_lines(answers_path, _Answer)}
        of_category: list[Item] = []
        seen = set[str]()
        for number, row in _read_lines(path, _Row):
            if row.id in seen:
                raise UserError(f"{path}:{number}: a second question {row.id!r}")
            seen.add(row.id)
            if not category.endswith("relevance") and row.id not in answers:
                raise UserError(
                    f"{path}:{number}: {answers_path} has no answer to {row.id!r}.{nearest(row.id, answers)}"
                )
            try:
                of_category.append(_row_to_item(row, category, answers.get(row.id)))
            except ValueError as error:
                raise UserError(f"{path}:{number}: {error}") from None
        if limit is not None:
            of_category = sorted(of_category, key=lambda item: hashlib.sha256(item.id.encode()).digest())[:limit]
        items += of_category
    return items


def _read_lines(path: Path, model: type[Line]) -> Iterator[tuple[int, Line]]:
    for number, value in read_jsonl(path):
        if isinstance(value, BadLine):
            raise UserError(str(value))
        try:
            yield number, model.model_validate(value)
        except ValidationError as error:
            raise UserError(f"{path}:{number}: {describe_validation_error(error, model)}") from None


def _row_to_item(row: _Row, category: str, answer: _Answer | None) -> Item:
    functions = {}
    for value in row.function:
        try:
            function = _Function.model_validate(value)
        except ValidationError as error:
            raise UserError(f"function: {describe_validation_error(error, _Function)}") from None
        if function.name in functions:
            raise UserError(f"function {function.name!r} is defined twice")
        functions[function.name] = function.parameters
        for name, parameter in function.parameters.properties.items():
            _check_type(parameter, f"function {function.name!r}, parameter {name!r}")
    names = _shown_names(list(functions))
    shown = {name: shown for shown, name in names.items()}
    try:
        tools = tools_of([{**value, "name": shown[str(value["name"])]} for value in row.function])
        messages = tuple(Message.model_validate(message) for message in row.question[0])
    except Unrepresentable as error:
        raise UserError(str(error)) from None
    except ValidationError as error:
        raise UserError(f"question: {describe_validation_error(error, Message)}") from None
    if fault := check_messages(messages):
        raise UserError(f"question: {fault}")
    gold = None
    if answer is not None:
        gold = tuple(_gold(call, functions, category) for call in answer.ground_truth)
    return Item(row.id, category, messages, tools, names, gold)


def _check_type(parameter: Mapping[str, Any], where: str) -> None:
    kind = parameter.get("type")
    if not isinstance(kind, str) or kind not in TYPES:
        raise UserError(f"{where}: type is one of {', '.join(TYPES)}, got {kind!r}.{nearest(str(kind), TYPES)}")
    if TYPES[kind] is list:
        items = parameter.get("items")
        if not isinstance(items, dict) or str(items.get("type")) not in TYPES:
            raise UserError(f"{where}: type {kind} needs items with a type, got {items!r:.80}")


def _shown_names(names: Sequence[str]) -> dict[str, str]:
    """The data's name of each name that a model is shown: dots, which many servers refuse, become underscores."""
    found: dict[str, str] = {}
    for name in names:
        shown = re.sub(r"\.", "_", name)
        while shown in found or (shown != name and shown in names):
            shown += "_"
        found[shown] = name
    return found


def _gold(call: Mapping[str, dict[str, list[Any]]], functions: Mapping[str, _Parameters], category: str) -> Gold:
    if len(call) != 1:
        raise UserError(f"a gold call has one name, got {', '.join(call) or 'none'}")
    [(name, allowed)] = call.items()
    if category in ("simple_python", "live_simple"):
        name = next(iter(functions), name)  # where there is one function, the package looks at no other name
    if name not in functions:
        raise UserError(f"a gold call of {name!r}, which is no function here.{nearest(name, functions)}")
    return Gold(name, functions[name].properties, functions[name].required, allowed)


# ---- the scorer ----


def score_item(item: Item, prediction: Prediction) -> Score:
    """How good a prediction is. A turn that could not be read counts as one without calls, as in the package."""
    parsed, called = prediction.unreadable is None, bool(prediction.calls)
    if item.gold is None:
        wanted = item.category == "live_relevance"
        return Score(called == wanted, parsed, called, None, None)
    right_names = Counter(call.name for call in prediction.calls) == Counter(gold.name for gold in item.gold)
    return Score(
        calls_are_right(prediction.calls, item.gold),
        parsed,
        called,
        right_names,
        argument_f1(prediction.calls, item.gold),
    )


def calls_are_right(calls: Sequence[PredictedCall], wanted: Sequence[Gold]) -> bool:
    """Whether the calls are those that are wanted, in any order: each gold call takes the first that fits it."""
    if len(calls) != len(wanted):
        return False
    left = list(calls)
    for gold in wanted:
        place = next((place for place, call in enumerate(left) if call_is_right(call, gold)), None)
        if place is None:
            return False
        del left[place]
    return True


def call_is_right(call: PredictedCall, gold: Gold) -> bool:
    """Name, no argument too many or too few, and every value among the allowed ones."""
    return (
        call.name == gold.name
        and gold.must_have <= call.arguments.keys()
        and all(argument_is_right(name, value, gold) for name, value in call.arguments.items())
    )


def argument_is_right(name: str, value: JsonValue, gold: Gold) -> bool:
    """Whether an argument is known and has an allowed value."""
    return (
        name in gold.properties
        and name in gold.allowed
        and _is_allowed(value, gold.properties[name], gold.allowed[name])
    )


def argument_f1(calls: Sequence[PredictedCall], wanted: Sequence[Gold]) -> float:
    """F1 of the arguments of all calls: 2 x right / (given + expected).

    Each gold call, in order, takes from the calls of its name that are left the one with the highest F1 of its own, the first
    among equals. Given are all arguments of all calls. Expected are those that may not be left out, and the others that were
    given rightly. Where nothing is given or expected, it is 1 if every gold call has taken a call and none is left, else 0.
    """
    left = list(calls)
    right = expected = 0
    for gold in wanted:
        of_places = {place: _counts(call, gold) for place, call in enumerate(left) if call.name == gold.name}
        if not of_places:
            expected += len(gold.must_have)
            continue
        best = max(of_places, key=lambda place: _f1(*of_places[place]))
        right, expected = right + of_places[best][0], expected + of_places[best][2]
        del left[best]
    given = sum(len(call.arguments) for call in calls)
    if given + expected == 0:
        return float(len(calls) == len(wanted) and not left)
    return _f1(right, given, expected)


def _counts(call: PredictedCall, gold: Gold) -> tuple[int, int, int]:
    """Arguments of a call: right ones, given ones, expected ones."""
    right = {name for name, value in call.arguments.items() if argument_is_right(name, value, gold)}
    return len(right), len(call.arguments), len(gold.must_have | right)


def _f1(right: int, given: int, expected: int) -> float:
    return 2 * right / (given + expected) if given + expected else 1.0


# The rules below are the package's, with all that is odd about them, so that scores can be compared with published ones.


def _is_allowed(value: Any, parameter: Mapping[str, Any], allowed: Sequence[Any]) -> bool:
    """Whether a value is of the declared type, or of the type of the allowed values, and equals one of these."""
    kind = parameter["type"]
    expected = TYPES[kind]
    inner = TYPES[parameter["items"]["type"]] if expected is list else None
    if kind == "float" and type(value) is int:
        try:
            value = float(value)
        except OverflowError:
            return False
    # Gold values of another type than the declared one stand for a variable's name, and are compared letter by letter.
    gold_type = _gold_type(allowed)
    exactly = gold_type not in (None, expected)
    as_declared = type(value) is expected
    if as_declared:
        if inner is not None and not any(_items_fit(value, option, inner) for option in allowed):
            return False
    elif gold_type is not None and type(value) is gold_type:
        exactly = True
    else:
        return False
    if exactly:
        return value in allowed
    if expected is dict:
        return any(_dict_fits(value, option) for option in allowed)
    if inner is dict:
        options = [option for option in allowed if isinstance(option, list | str)]
        return any(len(value) == len(option) and all(map(_dict_fits, value, option)) for option in options)
    if expected is str:
        return _plain(value) in [_plain(option) for option in allowed if isinstance(option, str)]
    if expected is list:
        # The "" of an argument that may be left out allows an empty list too.
        return list(map(_plain, value)) in [list(map(_plain, each)) for each in allowed if isinstance(each, list | str)]
    return value in allowed


def _gold_type(allowed: Iterable[Any]) -> type | None:
    return next((type(option) for option in allowed if option != ""), None)


def _items_fit(values: list[Any], option: Any, inner: type) -> bool:
    """Whether each item is of the declared type or of that of the option's own items."""
    return not isinstance(option, list) or all(type(value) in (inner, _gold_type(option)) for value in values)


def _dict_fits(value: Any, option: Any) -> bool:
    """Whether an object has the keys of a gold one, which lists the allowed values of each key."""
    if not isinstance(value, dict) or not isinstance(option, dict):
        return False
    for key, part in value.items():
        if not isinstance(option.get(key), list | str) or _plain(part) not in [_plain(each) for each in option[key]]:
            return False
    return all(key in value or (isinstance(each, list | str) and "" in each) for key, each in option.items())


_IGNORED = re.compile(r"[ ,./\-_*^]")


def _plain(value: Any) -> Any:
    """A text without case, spaces and the signs that do not count; anything else as it is."""
    return _IGNORED.sub("", value).lower().replace("'", '"') if isinstance(value, str) else value


def score_items(items: Iterable[Item], predictions: Mapping[str, Prediction]) -> dict[str, dict[str, Kpi]]:
    """All measures of each category, and of the two sorts of questions together: those that want calls and those that do not.

    Shares have a Wilson interval; the mean of the F1 has a bootstrap interval over questions.
    """
    groups: dict[str, list[Score]] = {}
    sums: dict[str, list[Score]] = {WANT_CALLS: [], WANT_NONE: []}
    for item in items:
        score = score_item(item, predictions[item.id])
        groups.setdefault(item.category, []).append(score)
        sums[WANT_NONE if item.category.endswith("irrelevance") else WANT_CALLS].append(score)
    return {name: _measure(scores) for name, scores in {**groups, **sums}.items() if scores}


def _measure(scores: Sequence[Score]) -> dict[str, Kpi]:
    def share(values: Iterable[bool | None]) -> Kpi:
        known = [value for value in values if value is not None]
        return wilson(sum(known), len(known))

    return {
        "strict": share(score.strict for score in scores),
        "parsed": share(score.parsed for score in scores),
        "called": share(score.called for score in scores),
        "right_names": share(score.right_names for score in scores),
        "argument_f1": bootstrap_mean([[score.argument_f1] for score in scores if score.argument_f1 is not None]),
    }


# ---- predictions ----


def silence(items: Iterable[Item]) -> dict[str, Prediction]:
    """The predictions of a model that never calls: right wherever no call is wanted, so every score stands beside these."""
    return {item.id: Prediction(id=item.id) for item in items}


def read_predictions(path: Path, items: Sequence[Item]) -> tuple[dict[str, Prediction], int]:
    """A prediction for each question, and how many lines belong to other questions.

    Raises:
        UserError: at the first line that is no prediction or repeats an id, or if a question has none.
    """
    found: dict[str, Prediction] = {}
    for number, prediction in _read_lines(path, Prediction):
        if prediction.id in found:
            raise UserError(f"{path}:{number}: a second prediction for {prediction.id!r}")
        found[prediction.id] = prediction
    missing = [item.id for item in items if item.id not in found]
    if missing:
        others = found.keys() - {item.id for item in items}
        raise UserError(
            f"{path}: {len(missing)} of {len(items)} questions have no prediction, the first is {missing[0]!r}."
            f"{nearest(missing[0], others)} Choose the questions by --categories and --limit."
        )
    return {item.id: found[item.id] for item in items}, len(found) - len(items)
