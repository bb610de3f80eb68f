"""Rows out of files of every kind: what is read, what is bad and where, and that nothing is invented."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets.exceptions import DatasetNotFoundError
from hypothesis import given
from hypothesis import strategies as st

import data.formats.inputs
from core.errors import UserError
from core.json_lines import BadLine, json_line_to_object, json_to_object
from data.formats.inputs import find_input, neighbours

ROWS: list[dict[str, Any]] = [
    {"id": i, "text": f'안녕 {i}\n"quoted", and: more', "deep": {"n": None, "l": [i, {"k": 1.5}]}} for i in range(5)
]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def zstd(raw: bytes) -> bytes:
    packed: bytes = pa.Codec("zstd").compress(raw, asbytes=True)
    return packed


def read(path: Path | str) -> list[tuple[int, Any]]:
    return [numbered for chunk in find_input(str(path)).chunks() for numbered in chunk.rows()]


def rows_in(path: Path | str) -> list[Any]:
    return [row for _, row in read(path)]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small that each file falls into many."""
    monkeypatch.setattr("data.formats.json_documents.CHUNK_BYTES", 40)
    monkeypatch.setattr(data.formats.inputs, "CHUNK_ROWS", 2)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES),
        ("a.jsonl", LINES.rstrip(b"\n")),
        ("a.jsonl", b"\xef\xbb\xbf" + LINES),
        ("a.jsonl", LINES.replace(b"\n", b"\r\n\r\n")),
        ("a.ndjson", LINES),
        ("a.json", LINES),
        ("a.json", json.dumps(ROWS).encode()),
        ("a.json", b"\xef\xbb\xbf \n" + json.dumps(ROWS, indent=2, ensure_ascii=False).encode() + b"\n\n"),
        ("a.json", "\n".join(json.dumps(row, indent=1) for row in ROWS).encode()),
        ("no-suffix", LINES),
        ("a.jsonl.gz", gzip.compress(LINES, mtime=0)),
        ("a.jsonl.gz", gzip.compress(LINES[:100], mtime=0) + gzip.compress(LINES[100:], mtime=0)),
        ("a.json.gz", gzip.compress(json.dumps(ROWS).encode(), mtime=0)),
        ("a.jsonl.zst", zstd(LINES)),
        ("a.jsonl.zst", zstd(LINES[:100]) + zstd(LINES[100:])),
    ],
)
def test_every_way_of_writing_json_gives_the_same_rows(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert rows_in(tmp_path / name) == ROWS


def test_numbers_are_lines_in_lines_and_places_in_lists(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('\n{"a": 1}\n\n\n{"a": 2}\n[1]\n')
    assert read(tmp_path / "a.jsonl") == [(2, {"a": 1}), (5, {"a": 2}), (6, [1])]
    (tmp_path / "a.json").write_text('[\n{"a": 1},\n\n 7, "x", [2], 12.5e1,\n true]')
    assert read(tmp_path / "a.json") == [(1, {"a": 1}), (2, 7), (3, "x"), (4, [2]), (5, 125.0), (6, True)]


PAGE = b"<!DOCTYPE html>\n<html><head><title>Log in</title></head></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
KOREAN = '{"messages": [{"role": "user", "content": "서울 날씨를 알려 줘"}]}\n{"a": "확인했습니다"}\n'


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.jsonl", b"", "the file is empty (0 bytes)"),
        ("a.csv", b"", "the file is empty (0 bytes)"),
        ("a.json", b"\n \n", "nothing but blank space"),
        ("a.jsonl", b"\xef\xbb\xbf\r\n\t", "nothing but blank space"),
        ("a.json", b"[]", "an empty list"),
        ("a.jsonl", b" [ ] \n", "an empty list"),
        ("a.csv", b"a,b\n", "a header and no row"),
        ("a.jsonl.gz", gzip.compress(b"", mtime=0), "empty inside its packing"),
        ("a.json", PAGE, "an HTML page"),
        ("a.jsonl", b"\n<!-- saved -->\n<html lang='ko'>", "an HTML page"),
        ("a.csv", PAGE, "an HTML page"),
        ("a.parquet", PAGE, "an HTML page"),
        ("a.jsonl.gz", PAGE, "an HTML page"),
        ("a.jsonl.gz", gzip.compress(PAGE, mtime=0), "an HTML page"),
        ("a.jsonl", POINTER, "git lfs pull"),
        ("a.parquet", POINTER, "git lfs pull"),
        ("a.jsonl.zst", POINTER, "git lfs pull"),
        ("a.jsonl", gzip.compress(LINES, mtime=0), "packed with gzip; rename it to a.jsonl.gz"),
        ("a.csv", zstd(LINES), "packed with zstd; rename it to a.csv.zst"),
        ("a.jsonl.gz", gzip.compress(gzip.compress(LINES, mtime=0), mtime=0), "packed with gzip inside"),
        ("a.jsonl.gz", zstd(LINES), "packed with zstd"),
        ("a.jsonl.gz", LINES, "rename it to a.jsonl"),
        ("a.jsonl.zst", LINES, "rename it to a.jsonl"),
        ("a.json", b"PK\x03\x04...", "a ZIP archive"),
        ("a.json", b"PAR1....PAR1", "rename it to a.json.parquet"),
        ("a.jsonl", KOREAN.encode("utf-16"), "UTF-16"),
        ("a.jsonl", KOREAN.encode("utf-16-le"), "UTF-16LE"),
        ("a.jsonl", KOREAN.encode("utf-16-be"), "UTF-16BE"),
        ("a.csv", "이름,설명\n서울,수도\n부산,항구\n대전,과학\n".encode("utf-16-le"), "UTF-16LE"),
        ("a.jsonl", KOREAN.encode("cp949"), "cp949"),
        ("a.json", KOREAN.encode("euc-kr"), "iconv -f CP949 -t UTF-8 a.json"),
        ("a.csv", "질문,답변\n뷁은 무엇인가요,글자입니다\n".encode("cp949"), "cp949"),
    ],
)
def test_a_file_that_holds_no_rows_is_named_for_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, told: str
) -> None:
    monkeypatch.setattr("data.formats.json_documents.CHUNK_BYTES", 2**20)
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError) as raised:
        read(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: ") and told in message and "\n" not in message


def test_one_broken_byte_is_a_bad_row_and_no_other_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.formats.json_documents.CHUNK_BYTES", 2**20)
    good = KOREAN.encode()
    for broken in (
        b'{"a": "caf\xe9"}\n',
        b'{"a": "\xff"}\n',
        b'{"a": "\x00\x00"}\n',
        '{"a": "가나다"}\n'.encode("cp949"),
    ):
        (tmp_path / "a.jsonl").write_bytes(good + broken)
        assert isinstance(rows_in(tmp_path / "a.jsonl")[2], BadLine)
    # Bytes of Chinese are no Korean.
    (tmp_path / "a.jsonl").write_bytes('{"a": "北京的天气怎么样"}\n'.encode("gbk"))
    assert isinstance(rows_in(tmp_path / "a.jsonl")[0], BadLine)


def test_an_empty_part_beside_others_is_read_past(tmp_path: Path) -> None:
    (tmp_path / "part-0.jsonl").write_text("")
    (tmp_path / "part-1.jsonl").write_text('{"a": 1}\n')
    assert rows_in(tmp_path) == [{"a": 1}]


@pytest.mark.parametrize(
    ("name", "text", "rows"),
    [
        ("a.jsonl", '[{"a": 1}, {"b": "가"}]', [{"a": 1}, {"b": "가"}]),
        ("a.jsonl", '[\n {"a": 1},\n {"b": 2}\n]\n', [{"a": 1}, {"b": 2}]),
        ("a.jsonl", "[1]\n[2]\n", [[1], [2]]),  # lists that each stand on a line
        ("a.json", '{"data": [{"a": 1}, {"b": 2}]}', [{"a": 1}, {"b": 2}]),
        ("a.jsonl", '{"version": 2, "tags": ["x"], "rows": [{"a": "가"}]}\n', [{"a": "가"}]),
        ("a.json", '{\n "rows": [\n  {"a": 1}\n ],\n "total": 1\n}', [{"a": 1}]),
        (
            "a.json",
            '{"features": [{"name": "a"}], "rows": [{"row_idx": 0, "row": {"a": 1}, "truncated_cells": []}]}',
            [{"a": 1}],
        ),
        ("a.json", '{"data": [{"a": 1}], "rows": [{"b": 2}]}', [{"data": [{"a": 1}], "rows": [{"b": 2}]}]),
        ("a.json", '{"messages": [{"role": "user"}]}', [{"messages": [{"role": "user"}]}]),
        ("a.json", '{"data": ["a", "b"]}', [{"data": ["a", "b"]}]),
        ("a.jsonl", '{"data": [{"a": 1}]}\n{"data": [{"a": 2}]}\n', [{"data": [{"a": 1}]}, {"data": [{"a": 2}]}]),
    ],
)
def test_a_list_or_an_object_that_wraps_one_gives_its_rows(
    tmp_path: Path, name: str, text: str, rows: list[Any]
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert rows_in(tmp_path / name) == rows


BAD_LINES = [
    (b'{"a": ', "not JSON"),
    (b'{"a": NaN}', "NaN is not JSON"),
    (b'{"a": 1e999}', "too large"),
    (b'{"a": 1, "a": 2}', "stands twice"),
    (b'{"a": 1, "a" : 2}', "stands twice"),
    (b'{"a": [{"b": 1, "b": 1}]}', "stands twice"),
    (b'{"a": "\\ud800"}', "surrogate"),
    (b'{"a": "\xff"}', "not UTF-8"),
    (b"[" * 100_000, "nested deeper than 150 levels"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD_LINES)
def test_a_bad_line_is_named_and_the_rest_goes_on(tmp_path: Path, bad: bytes, reason: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINES + bad + b"\n" + LINES)
    numbered = read(tmp_path / "a.jsonl")
    assert [row for _, row in numbered if not isinstance(row, BadLine)] == ROWS + ROWS
    (line,) = [row for _, row in numbered if isinstance(row, BadLine)]
    assert (line.line, str(line).split(":")[1]) == (6, "6") and reason in line.reason


@pytest.mark.parametrize(("bad", "reason"), [case for case in BAD_LINES[1:] if b"[[[" not in case[0]])
def test_a_bad_element_of_a_list_is_named_and_the_rest_goes_on(tmp_path: Path, bad: bytes, reason: str) -> None:
    (tmp_path / "a.json").write_bytes(b'[{"a": 1},\n' + bad + b', {"a": "\xed\x95\x9c"}]')
    (first, second, third) = rows_in(tmp_path / "a.json")
    assert (first, third) == ({"a": 1}, {"a": "한"})
    assert isinstance(second, BadLine) and second.line == 2 and reason in second.reason


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"a": 1},\n{"a": }]', r"a\.json:2: not JSON: Expecting value"),
        ('[{"a": 1}\n{"a": 2}]', r"a\.json:2: a list goes on with , or ends with \]"),
        ('[{"a": 1},', r"a\.json:1: the list has no end"),
        ('[{"a": 1}', r"a\.json:1: a list goes on"),
        ('[{"a": "unterminated', r"a\.json:1: not JSON: Unterminated string"),
        ('[{"a": 1}] {"a": 2}', r"a\.json:1: there is text behind the end of the list"),
        ('[{"a": 1},]', r"a\.json:1: not JSON"),
        ('{\n "a": 1\n}\n{\n "a" 2}', r"a\.json:5: not JSON: Expecting ':'"),
        ("[" * 100_000, r"a\.json:1: nested too deeply"),
    ],
)
def test_a_broken_document_names_its_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read(tmp_path / "a.json")


def test_an_endless_row_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.formats.json_documents.LONGEST_ROW_BYTES", 2**20)
    for name, start in (("a.jsonl", '{"a": "'), ("a.json", '[{"a": "')):
        (tmp_path / name).write_text(start + "x" * 3 * 2**20)
        with pytest.raises(UserError, match=r"1: a (line|row) of more than 1 MiB"):
            read(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl.gz", gzip.compress(LINES, mtime=0)[:-9]),
        ("a.jsonl.gz", b"hello"),
        ("a.jsonl.zst", zstd(LINES)[:-5]),
        ("a.csv.zst", b"hello"),
        ("a.parquet", b"PAR1 and no more"),
        ("a.parquet", b""),
        ("a.parquet.gz", b""),
    ],
)
def test_broken_files_are_one_message(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        read(tmp_path / name)


# --- CSV ---


@pytest.mark.parametrize("pack", [None, gzip.compress, zstd])
def test_csv_keeps_line_breaks_quotes_and_korean(tmp_path: Path, pack: Any) -> None:
    raw = '\ufeffinstruction,output\r\n"첫 줄\n둘째, ""줄""",답\r\n,\r\n\r\nx,y'.encode()
    path = tmp_path / {None: "a.csv", gzip.compress: "a.csv.gz"}.get(pack, "a.csv.zst")
    path.write_bytes(pack(raw) if pack else raw)
    assert read(path) == [
        (2, {"instruction": '첫 줄\n둘째, "줄"', "output": "답"}),
        (4, {"instruction": "", "output": ""}),
        (6, {"instruction": "x", "output": "y"}),
    ]


def test_bad_csv_rows_are_named_by_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'a,b\n1\n2,\xff\n3,"x"y\n4,5,6\n7,8\n9,"open\n')
    reasons = [(number, row.reason if isinstance(row, BadLine) else row) for number, row in read(tmp_path / "a.csv")]
    assert reasons == [
        (2, "1 cells under 2 columns"),
        (3, "not UTF-8"),
        (4, "not CSV: ',' expected after '\"'"),
        (5, "3 cells under 2 columns"),
        (6, {"a": "7", "b": "8"}),
        (7, "not CSV: unexpected end of data"),
    ]
    (tmp_path / "b.csv").write_text("a,b,a\n1,2,3\n")
    with pytest.raises(UserError, match=r"b\.csv:1: column 'a' stands twice"):
        read(tmp_path / "b.csv")
    (tmp_path / "long.csv").write_text("a\n" + "x" * 300_000)
    assert len(rows_in(tmp_path / "long.csv")[0]["a"]) == 300_000


# --- Parquet and the hub ---


def test_parquet_leaves_out_the_keys_that_arrow_invented(tmp_path: Path) -> None:
    rows = [
        {"calls": [{"name": "f", "arguments": {"city": "서울"}}], "n": 1},
        {"calls": [{"name": "g", "arguments": {"day": 2}}], "n": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=1)
    assert rows_in(tmp_path / "a.parquet") == rows
    chunks = list(find_input(str(tmp_path / "a.parquet")).chunks())
    assert [len(list(chunk.rows())) for chunk in chunks] and sum(chunk.nulls for chunk in chunks) == 2


def test_parquet_types_become_json(tmp_path: Path) -> None:
    from datetime import UTC, datetime  # noqa: PLC0415 - only here
    from decimal import Decimal  # noqa: PLC0415 - only here

    table = pa.table(
        {
            "when": [datetime(2026, 11, 21, 9, tzinfo=UTC)],
            "price": [Decimal("1.10")],
            "raw": [b"\x00"],
            "map": pa.array([[("k", {"x": None})]], pa.map_(pa.string(), pa.struct([("x", pa.int64())]))),
            "big": [2**63 - 1],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    (row,) = rows_in(tmp_path / "a.parquet")
    assert row == {
        "when": "2026-11-21T09:00:00+00:00",
        "price": "1.10",
        "raw": {"bytes": 1},
        "map": {"k": {}},
        "big": 2**63 - 1,
    }
    pq.write_table(pa.table({"x": [{"y": float("nan")}, {"y": 1.0}]}), tmp_path / "b.parquet")
    bad, good = rows_in(tmp_path / "b.parquet")
    assert isinstance(bad, BadLine) and "nan is not JSON" in bad.reason and good == {"x": {"y": 1.0}}


def hub_set(monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Let `datasets` stream these rows, and note how it is asked."""
    asked: list[tuple[Any, ...]] = []

    def load_dataset(name: str, subset: str | None, **options: Any) -> Any:
        asked.append((name, subset, options))
        return datasets.Dataset.from_list(rows).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def test_a_hub_id_is_streamed_and_invented_nulls_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"a": {"x": 1}, "n": i} for i in range(3)] + [{"a": {"y": "둘"}, "n": 3}]
    asked = hub_set(monkeypatch, rows)
    source = find_input("somebody/some-set", revision="abc", subset="all", split="test")
    assert source.hub_id == "somebody/some-set"
    assert [row for chunk in source.chunks() for _, row in chunk.rows()] == rows
    assert asked == [("somebody/some-set", "all", {"split": "test", "revision": "abc", "streaming": True})]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            DatasetNotFoundError("Dataset 'a/b' is a gated dataset on the Hub."),
            r"a/b: is gated\. Accept its terms on https.*HF_TOKEN",
        ),
        (
            DatasetNotFoundError("Dataset 'a/b' doesn't exist on the Hub or cannot be accessed."),
            r"the hub does not show it",
        ),
        (ValueError("Config name is missing. Please pick one among the available configs: ['x']"), r"\['x'\]"),
        (ConnectionError("no route"), r"cannot be read from the hub: no route"),
    ],
)
def test_what_the_hub_refuses_says_what_to_do(monkeypatch: pytest.MonkeyPatch, error: Exception, message: str) -> None:
    def load_dataset(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(UserError, match=message):
        list(find_input("a/b").chunks())


def test_offline_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"a/b: there is no such file.*HF_HUB_OFFLINE is set.*hf download a/b"):
        list(find_input("a/b").chunks())


# --- names ---


def test_a_folder_is_all_its_files_of_rows(tmp_path: Path) -> None:
    for name in (
        "b/2.jsonl",
        "a.jsonl",
        ".hidden/x.jsonl",
        "README.md",
        "out.bad.jsonl",
        "out.counts.json",
        "dataset_infos.json",
        "c.csv.gz",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(gzip.compress(b"a\n1\n") if name.endswith(".gz") else b'{"a": 1}\n')
    assert [str(file.relative_to(tmp_path)) for file in find_input(str(tmp_path)).files] == [
        "a.jsonl",
        "b/2.jsonl",
        "c.csv.gz",
    ]
    assert len(find_input(f"{tmp_path}/**/*.jsonl").files) == 3
    assert len(rows_in(tmp_path)) == 3


def test_wrong_names_are_told_with_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.jsonl").write_bytes(LINES)
    (tmp_path / "runs").mkdir()
    for name, message in [
        ("trian.jsonl", r"no such file or folder.*Did you mean 'train\.jsonl'"),
        ("runs/x", "no such file or folder"),
        ("runs", "a folder without a file of rows"),
        ("what is this?", "no such file or folder"),
    ]:
        with pytest.raises(UserError, match=message):
            find_input(name)
    with pytest.raises(UserError, match=r"revision: only a dataset on the hub has one, and train\.jsonl is a file"):
        find_input("train.jsonl", revision="main")


# --- neighbours ---


def test_neighbours_become_one_row_and_scattered_ones_are_bad(tmp_path: Path) -> None:
    rows = [{"t": t, "i": i} for i, t in enumerate(["a", "a", "a", "b", None, None, "c", "b", "b"])]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{\n")
    found = [numbered for chunk in neighbours(find_input(str(tmp_path)).chunks(), "t") for numbered in chunk.rows()]
    groups = [(number, [row["i"] for row in group["rows"]]) for number, group in found if isinstance(group, dict)]
    assert groups == [(1, [0, 1, 2]), (4, [3]), (5, [4]), (6, [5]), (7, [6])]
    assert [(number, row.reason[:25]) for number, row in found if isinstance(row, BadLine)] == [
        (10, "not JSON: Expecting prope"),
        (8, "rows of t 'b' stand in tw"),
        (9, "rows of t 'b' stand in tw"),
    ]


# --- the fast reader of lines is as strict as the slow one ---

JSON_TEXT = st.text(alphabet='{}[]",: \t\\1e9.aN-한', max_size=30) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(alphabet='a": :\\,한\t\x7f', max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='a":한 ', max_size=3), inner, max_size=3),
    max_leaves=8,
).flatmap(
    lambda value: st.sampled_from(
        [json.dumps(value), json.dumps(value, ensure_ascii=False), json.dumps([value], separators=(" ,", " : "))]
    )
)  # fmt: skip


@given(JSON_TEXT, st.booleans())
def test_the_fast_reader_agrees_with_the_strict_one(text: str, twice: bool) -> None:
    if twice and text.startswith('{"'):
        text = f"{text[:-1]},{text[1:]}"  # each key stands twice now

    def outcome(read_it: Any, argument: Any) -> Any:
        try:
            return repr(read_it(argument))
        except ValueError as error:
            return str(error)

    assert outcome(json_line_to_object, text.encode()) == outcome(json_to_object, text.rstrip("\r\n"))


BOMBS: dict[str, Callable[[], pa.Table]] = {
    "one text in a dictionary, named by each row": lambda: pa.table({"messages": pa.array(["x" * 3_000_000] * 200)}),
    "the same inside of lists": lambda: pa.table(
        {
            "messages": pa.array(
                [[{"role": "user", "content": "가" * 100_000}, {"role": "assistant", "content": ""}]] * 1200
            )
        }
    ),
    "one list of many values": lambda: pa.table({"messages": [np.ones(20_000_000, np.int8)]}),
    "many rows of nothing": lambda: pa.table({"messages": pa.nulls(50_000_000, pa.int8())}),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_parquet_that_holds_far_more_than_its_size_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(BOMBS[kind](), path, compression="zstd")
    before = pa.total_allocated_bytes()
    with pytest.raises(UserError, match=r"rows\.parquet: holds at least [\d,]+ MiB in [\d,]+ bytes") as raised:
        for chunk in find_input(str(path)).chunks():
            list(chunk.rows())
    assert "\n" not in str(raised.value)
    assert pa.total_allocated_bytes() - before < 100 * 2**20


def test_long_rows_of_parquet_are_read_a_few_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    texts = [f"{n}{'x' * 4_000_000}" for n in range(20)]
    pq.write_table(pa.table({"text": texts, "n": range(20), "flags": [{"a": [n, None]} for n in range(20)]}), path)
    chunks = list(find_input(str(path)).chunks())
    assert len(chunks) > 4
    assert [row["text"] for chunk in chunks for _, row in chunk.rows()] == texts
