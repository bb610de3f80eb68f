"""Every adapter over sample rows in its exact published schema: tests/samples/NAME.jsonl, and NAME.expected.json with the
exact result of every row.

After a change of an adapter or of its rows, `python tests/support/golden.py NAME` shows what changed and writes it down; its
docstring has the layout. What it shows is reviewed against the published meaning of the format.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import UserError
from core.json_lines import BadLine
from data.chats import Chat, PreferencePair, Result, Skip
from data.formats.adapter import Adapter
from data.formats.catalogue import ADAPTERS
from data.formats.inputs import Rows, find_input
from data.formats.reading import adapt_chunk
from data.formats.recognise import find_adapter
from data.formats.row_keys import WEIGHT_KEYS
from support.golden import difference, expected_file, golden_text, result_of, results_of, sample_file


def expected(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(expected_file(name).read_text(encoding="utf-8"))
    return value


def good_results_of(adapter: Adapter, path: Path) -> list[Result]:
    return [result for _, result in results_of(adapter, path) if not isinstance(result, BadLine)]


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
    want, got = expected_file(name).read_text(encoding="utf-8"), golden_text(name)
    if want != got:
        changes = difference(name, want, got)
        pytest.fail(f"{changes}\nIf this is right: python tests/support/golden.py {name}", pytrace=False)


@pytest.mark.parametrize("name", ADAPTERS)
def test_the_expected_results_are_the_results(name: str) -> None:
    """What expected.json leaves out are defaults, and what it holds passes every invariant anew."""
    adapter = ADAPTERS[name]
    made = [result for _, result in results_of(adapter, sample_file(name))]
    entries = expected(name)["results"]
    kept = [result for result in made if isinstance(result, Chat | PreferencePair)]
    assert [result_of(entry) for entry in entries if "skip" not in entry and "bad" not in entry] == kept
    assert kept, "a sample of nothing but Skips shows nothing"
    for result in kept:
        assert isinstance(result, PreferencePair) == (adapter.kind == "pair")
        assert result.id and result.source
        if adapter.hub_id is not None:
            assert result.source.split("/")[0] == name
        if adapter.terms.licence is not None:
            assert result.licence == adapter.terms.licence


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
            try:
                ((_, made),) = adapt_chunk(adapter, Rows("rows", [(1, {"rows": [row]} if adapter.joins_rows else row)]))
            except UserError as question:  # a weight that is none, a reward that says neither
                assert place[-1] in (*WEIGHT_KEYS, "reward"), question
                continue
            assert not isinstance(made, BadLine) or "failed on it" not in made.reason, (place, value, made)


def without_nulls(value: Any) -> Any:
    """Without objects of nothing, too: a struct without a field cannot stand in a Parquet file."""
    if isinstance(value, dict):
        kept = {key: without_nulls(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item is not None and item != {}}
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
        wanted = [*held, without_nulls(row)]
        try:  # rows whose types do not go together cannot stand in one Parquet file
            table = table_of(wanted)
            pq.write_table(table, tmp_path / "rows.parquet")
        except (pa.ArrowException, OverflowError):
            continue
        if json.dumps(without_nulls(table.to_pylist()), sort_keys=True) == json.dumps(wanted, sort_keys=True):
            held = wanted  # else Arrow made a number of a truth value, or a float of a whole number
    assert held
    pq.write_table(table_of(held), tmp_path / "rows.parquet")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in held), encoding="utf-8")
    written, through_parquet = (
        good_results_of(adapter, tmp_path / f"rows.{suffix}") for suffix in ("jsonl", "parquet")
    )
    assert said(through_parquet) == said(written)
    assert null_arguments(through_parquet) == null_arguments(written)  # those inside JSON text
