"""Every adapter over sample rows in its exact published schema: tests/samples/NAME.jsonl and NAME.expected.json.

expected.json: `{"kept": 4, "skipped": {reason: count}}`; `"auto"`: the adapter that `--adapter auto` takes for these rows,
where that is not this one (null where none or several fit); `"null_arguments"`: how many arguments the rows write as null.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from record_samples import SAMPLES

from data.adapters import ADAPTERS, Adapter, Result, adapt_chunk, chunks_for
from data.chats import Chat, PreferencePair, Skip
from data.convert import find_adapter
from data.errors import UserError
from data.inputs import Rows, find_input
from data.records import BadLine

OTHER_FILE = {"trajectory": "trajectories"}


def sample_file(name: str) -> Path:
    return SAMPLES / f"{OTHER_FILE.get(name, name)}.jsonl"


def expected(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((SAMPLES / f"{name}.expected.json").read_text(encoding="utf-8"))
    assert value.keys() <= {"kept", "skipped", "auto", "null_arguments"} and {"kept", "skipped"} <= value.keys()
    return value


def results_of(adapter: Adapter, path: Path) -> list[Result]:
    results: list[Result] = []
    for chunk in chunks_for(adapter, find_input(str(path))):
        for _, made in adapt_chunk(adapter, chunk):
            assert not isinstance(made, BadLine), str(made)
            results += made
    return results


def messages_of(result: Chat | PreferencePair) -> list[Any]:
    return list(result.messages if isinstance(result, Chat) else (*result.prompt, *result.chosen, *result.rejected))


def values_in(value: Any) -> Iterator[Any]:
    yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from values_in(item)


def null_arguments(results: list[Result]) -> int:
    arguments = [
        call.arguments
        for result in results
        if not isinstance(result, Skip)
        for message in messages_of(result)
        for call in message.tool_calls
    ]
    return sum(value is None for value in values_in(arguments))


@pytest.mark.parametrize("name", ADAPTERS)
def test_what_comes_out_of_the_samples(name: str) -> None:
    adapter = ADAPTERS[name]
    want = expected(name)
    results = results_of(adapter, sample_file(name))
    skipped = Counter(result.reason for result in results if isinstance(result, Skip))
    kept = [result for result in results if not isinstance(result, Skip)]
    assert (len(kept), dict(skipped)) == (want["kept"], want["skipped"])
    assert kept, "a sample of nothing but Skips shows nothing"
    assert null_arguments(results) == want.get("null_arguments", 0)
    for result in kept:
        assert type(result).model_validate_json(result.model_dump_json()) == result  # every invariant, checked anew
        assert isinstance(result, PreferencePair) == (adapter.kind == "pair")
        assert result.id and result.source
        if adapter.hub_id is not None:
            assert result.source.split("/")[0] == name
        if adapter.licence is not None:
            assert result.licence == adapter.licence


@pytest.mark.parametrize("name", ADAPTERS)
def test_auto_names_the_format(name: str) -> None:
    source = find_input(str(sample_file(name)))
    want = expected(name).get("auto", name)
    if want is None:
        with pytest.raises(UserError, match=r"no adapter recognises|adapters fit equally well"):
            find_adapter("auto", source, may_import=False)
        return
    found, why = find_adapter("auto", source, may_import=False)
    assert found.name == want and why


HOSTILE: list[Any] = [None, 7, 1.5, True, "", "x", [], {}, [None], [7], [[]], [{}], {"a": 1}]


def places_in(value: Any, depth: int) -> Iterator[tuple[Any, ...]]:
    if depth and isinstance(value, dict | list):
        for key in list(value)[:30] if isinstance(value, dict) else range(min(len(value), 3)):
            yield (key,)
            yield from ((key, *place) for place in places_in(value[key], depth - 1))


@pytest.mark.parametrize("name", ADAPTERS)
def test_no_value_in_any_place_makes_an_adapter_fail(name: str) -> None:
    adapter = ADAPTERS[name]
    text = sample_file(name).read_text(encoding="utf-8").splitlines()[0]
    for place in places_in(json.loads(text), 5):
        for value in HOSTILE:
            row = json.loads(text)
            inner = row
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = value
            ((_, made),) = adapt_chunk(adapter, Rows("rows", [(1, {"rows": [row]} if adapter.group_by else row)]))
            assert not isinstance(made, BadLine) or "failed on it" not in made.reason, (place, value, made)


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def said(results: list[Result]) -> list[Any]:
    return [
        (
            [message.model_dump() for message in messages_of(result)],
            [tool.model_dump() for tool in result.tools],
        )
        for result in results
        if not isinstance(result, Skip)
    ]


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    columns = {column: None for row in rows for column in row}
    return pa.Table.from_pylist([{**columns, **row} for row in rows])


@pytest.mark.parametrize("name", ADAPTERS)
def test_parquet_invents_nothing(name: str, tmp_path: Path) -> None:
    """The same rows through Arrow, whose structs fill the keys of other rows with null, give the same chats."""
    adapter = ADAPTERS[name]
    rows = [json.loads(line) for line in sample_file(name).read_text(encoding="utf-8").splitlines() if line.strip()]
    held: list[dict[str, Any]] = []
    for row in rows:
        try:  # rows whose types do not go together, or structs without a field, cannot stand in one Parquet file
            pq.write_table(table_of([*held, without_nulls(row)]), tmp_path / "rows.parquet")
        except (pa.ArrowException, OverflowError):
            continue
        held.append(without_nulls(row))
    pq.write_table(table_of(held), tmp_path / "rows.parquet")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in held), encoding="utf-8")
    written, through_parquet = (results_of(adapter, tmp_path / f"rows.{suffix}") for suffix in ("jsonl", "parquet"))
    assert said(through_parquet) == said(written)
    assert null_arguments(through_parquet) == null_arguments(written)  # those inside JSON text
