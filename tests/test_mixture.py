"""The prepared set: strict config, weights, the split by group, counts that add up, and Arrow that invents nothing."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from core.config import read_config
from core.errors import UserError
from data.chats import Chat, Message, PreferencePair, ToolCall
from data.release.build import build_release
from data.sets.build import BuildConfig, build
from data.sets.prepared import Prepared, dataset_row, read_prepared, rows_to_dataset
from data.wire import PreparedSet
from support.record_samples import action, record


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def records(count: int, *, groups: int | None = None, prefix: str = "r", **changes: Any) -> list[dict[str, Any]]:
    rows = []
    for index in range(count):
        row = record(id=f"{prefix}{index}", **changes)
        if groups:
            row["metadata"]["group"] = f"task-{index % groups}"
        rows.append(row)
    return rows


def config_of(tmp_path: Path, *sources: dict[str, Any], **keys: Any) -> BuildConfig:
    return BuildConfig.model_validate({"out": str(tmp_path / "set"), "sources": list(sources), **keys})


def prepare(tmp_path: Path, *sources: dict[str, Any], **keys: Any) -> Prepared:
    manifest = build(config_of(tmp_path, *sources, **keys))
    prepared = read_prepared(tmp_path / "set")
    assert prepared.manifest == manifest
    # Nothing vanishes: this holds for every set that any test here makes.
    for source in manifest["sources"]:
        assert source["read"] == source["kept"] + sum(source["dropped"].values())
    kept = sum(source["kept"] for source in manifest["sources"])
    splits = manifest["splits"]
    assert kept == sum(split["rows"] - split["copies"] for split in splits.values())
    assert [len(prepared.train), len(prepared.validation)] == [splits[name]["rows"] for name in ("train", "validation")]
    assert {row.group or row.id for row in prepared.train}.isdisjoint(
        row.group or row.id for row in prepared.validation
    )
    return prepared


def trajectories(tmp_path: Path, rows: list[dict[str, Any]], **keys: Any) -> dict[str, Any]:
    return {"adapter": "trajectory", "path": str(write_jsonl(tmp_path / "records.jsonl", rows)), **keys}


def test_a_set_is_written_counted_and_read_back(tmp_path: Path) -> None:
    rows = [*records(20, groups=8), *records(3, prefix="bad", outcome="failure"), *records(2, prefix="no", metadata={})]
    prepared = prepare(tmp_path, trajectories(tmp_path, rows), validation_share=0.3)
    (source,) = prepared.manifest["sources"]
    assert (source["read"], source["kept"]) == (25, 20)
    assert source["dropped"] == {"no instruction in metadata": 2, "outcome is failure": 3}
    assert source["licences"] == ["not stated"]
    assert prepared.kind == "chat" and isinstance(prepared.train[0], Chat)
    assert prepared.train and prepared.validation
    splits = prepared.manifest["splits"]
    assert splits["train"]["groups"] + splits["validation"]["groups"] == 8
    assert prepared.manifest["config"]["seed"] == 7
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == [
        "manifest.json", "train.jsonl", "validation.jsonl",
    ]  # fmt: skip


def test_rows_are_counted_by_the_source_that_they_name(tmp_path: Path) -> None:
    rows = records(12)
    for n, row in enumerate(rows):
        row["metadata"]["source"] = "김민수" if n % 3 == 0 else "lee"
    (source,) = prepare(tmp_path, trajectories(tmp_path, rows)).manifest["sources"]
    assert source["kept_by_source"] == {"lee": 8, "김민수": 4}
    (half,) = prepare(tmp_path, trajectories(tmp_path, rows, weight=0.5)).manifest["sources"]
    assert sum(half["kept_by_source"].values()) == half["kept"] == 6


def test_a_file_of_a_release_says_which_and_must_be_as_released(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text(
        "".join(
            json.dumps({**row, "metadata": {**row["metadata"], "source": "us", "licence": "MIT"}}) + "\n"
            for row in records(6)
        )
    )
    release = tmp_path / "releases" / "1.2.0"
    manifest = build_release([tmp_path / "records.jsonl"], release, version="1.2.0", name="mine").manifest
    released = {"adapter": "trajectory", "path": str(release / "data" / "file-ops.jsonl")}
    other = {"adapter": "trajectory", "path": str(tmp_path / "records.jsonl"), "max_rows": 2}
    first, second = prepare(tmp_path, released, other).manifest["sources"]
    assert first["files"][0]["release"] == {
        "name": "mine",
        "version": "1.2.0",
        "release_sha256": manifest.release_sha256,
    }
    assert second["files"][0]["release"] is None
    with open(release / "data" / "file-ops.jsonl", "a") as file:
        file.write(json.dumps(records(1, prefix="more")[0]) + "\n")
    with pytest.raises(UserError, match=r"file-ops\.jsonl: is not the file that .*MANIFEST\.json lists"):
        prepare(tmp_path, released)


def test_the_same_config_gives_the_same_bytes(tmp_path: Path) -> None:
    source = trajectories(tmp_path, records(30, groups=10), weight=1.5)
    contents = []
    for _ in range(2):
        prepare(tmp_path, source)
        contents.append({path.name: path.read_bytes() for path in (tmp_path / "set").iterdir()})
    assert contents[0] == contents[1]


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 12),
    groups=st.integers(1, 6),
    seed=st.integers(0, 99),
    share=st.sampled_from([0.01, 0.5, 0.99]),
)
def test_no_group_is_on_both_sides_and_no_side_is_empty(
    tmp_path_factory: pytest.TempPathFactory, count: int, groups: int, seed: int, share: float
) -> None:
    tmp_path = tmp_path_factory.mktemp("split")
    prepared = prepare(
        tmp_path, trajectories(tmp_path, records(count, groups=groups)), seed=seed, validation_share=share
    )
    assert prepared.train
    assert bool(prepared.validation) == (min(count, groups) > 1)
    assert len(prepared.train) + len(prepared.validation) == count


def test_share_zero_keeps_everything_for_training(tmp_path: Path) -> None:
    assert prepare(tmp_path, trajectories(tmp_path, records(5)), validation_share=0.0).validation == []


def test_a_group_keeps_its_side_when_sources_come_and_go(tmp_path: Path) -> None:
    source = trajectories(tmp_path, records(40, groups=20))
    alone = prepare(tmp_path, source, validation_share=0.3)
    more = {"adapter": "trajectory", "path": str(write_jsonl(tmp_path / "more.jsonl", records(30, prefix="m")))}
    both = prepare(tmp_path, source, more, validation_share=0.3)
    assert {row.group for row in alone.validation} <= {row.group for row in both.validation}
    other_seed = prepare(tmp_path, source, validation_share=0.3, seed=8)
    assert {row.group for row in alone.validation} != {row.group for row in other_seed.validation}


def copies_of(tmp_path: Path, rows: int, weight: float) -> list[int]:
    """How often each row of a source stands in its set, which may hold nothing else."""
    other = {"adapter": "trajectory", "path": str(write_jsonl(tmp_path / "other.jsonl", records(1, prefix="other")))}
    source = trajectories(tmp_path, records(rows), weight=weight)
    prepared = prepare(tmp_path, source, other, validation_share=0.0)
    taken = Counter(row.id for row in prepared.train)
    assert taken.pop("other0") == 1 and set(taken) <= {f"r{index}" for index in range(rows)}
    copies = [taken[f"r{index}"] for index in range(rows)]
    left_out = {f"left out by weight {weight:g}": copies.count(0)} if 0 in copies else {}
    assert prepared.manifest["sources"][0]["dropped"] == left_out
    assert prepared.manifest["sources"][0]["kept"] == rows - copies.count(0)
    return copies


@pytest.mark.parametrize(
    ("weight", "taken_of"),
    [
        (0.5, {1: 1, 2: 1, 3: 2, 4: 2, 5: 3, 10: 5}),
        (1.0, {1: 1, 3: 3, 10: 10}),
        (1.5, {1: 2, 2: 3, 3: 5, 4: 6, 5: 8, 10: 15}),
        (2.0, {1: 2, 3: 6, 10: 20}),
        (0.001, {1: 0, 10: 0, 499: 0, 500: 1}),
        (0.1, {4: 0, 5: 1, 14: 1, 15: 2}),
        (0.3, {1: 0, 2: 1, 5: 2, 10: 3}),
        (0.999, {1: 1, 3: 3, 10: 10}),
        # Halves that floats put below the half: 2.3 - 2 is 0.29999999999999982.
        (2.3, {5: 12, 15: 35}),
        (1.1, {5: 6, 15: 17}),
        (4.7, {5: 24}),
        (1e-9, {10: 0}),
    ],
)
def test_weight_takes_exactly_its_share_of_rows(tmp_path: Path, weight: float, taken_of: dict[int, int]) -> None:
    for rows, taken in taken_of.items():
        copies = copies_of(tmp_path, rows, weight)
        assert sum(copies) == taken, (weight, rows)
        assert max(copies) - min(copies) <= 1, "every row counts alike"


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 9), weight=st.decimals(min_value="0.01", max_value=4, places=2))
def test_copies_are_the_rounded_share_evenly_spread_and_the_same_again(
    tmp_path_factory: pytest.TempPathFactory, rows: int, weight: Decimal
) -> None:
    tmp_path = tmp_path_factory.mktemp("weight")
    copies = copies_of(tmp_path, rows, float(weight))
    assert sum(copies) == math.floor(Fraction(weight) * rows + Fraction(1, 2))
    assert max(copies) - min(copies) <= 1
    assert copies == copies_of(tmp_path, rows, float(weight))
    more = copies_of(tmp_path, rows, float(weight) + 0.5)
    assert all(one <= other for one, other in zip(copies, more, strict=True)), "a higher weight never loses a row"


def test_the_half_that_is_kept_is_not_the_first_half(tmp_path: Path) -> None:
    prepared = prepare(tmp_path, trajectories(tmp_path, records(40), weight=0.5), validation_share=0.0)
    first_half = sum(int(row.id[1:]) < 20 for row in prepared.train)
    assert 3 < first_half < 17


def test_copies_go_into_train_only(tmp_path: Path) -> None:
    prepared = prepare(tmp_path, trajectories(tmp_path, records(20), weight=3.0), validation_share=0.4)
    assert set(Counter(row.id for row in prepared.validation).values()) == {1}
    assert set(Counter(row.id for row in prepared.train).values()) == {3}


def test_max_rows_stops_reading(tmp_path: Path) -> None:
    rows = [*records(2, prefix="f", outcome="failure"), *records(9)]
    prepared = prepare(tmp_path, trajectories(tmp_path, rows, max_rows=4), validation_share=0.0)
    (source,) = prepared.manifest["sources"]
    assert [row.id for row in prepared.train] == ["r0", "r1", "r2", "r3"]
    assert (source["read"], source["kept"], source["stopped_at_max_rows"]) == (6, 4, True)


def test_outcomes_choose_what_is_imitated(tmp_path: Path) -> None:
    rows = [*records(2, prefix="p", outcome="partial"), *records(3), *records(4, prefix="f", outcome="failure")]
    source = trajectories(tmp_path, rows, outcomes=["success", "부분"])
    assert len(prepare(tmp_path, source, validation_share=0.0).train) == 5


def test_patterns_lists_and_several_formats(tmp_path: Path) -> None:
    for name in "ab":
        write_jsonl(tmp_path / f"part-{name}.jsonl", records(2, prefix=name))
    chat = {"messages": [{"role": "user", "content": "안녕"}, {"role": "assistant", "content": "네"}]}
    silent = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "x", "weight": 0}]}
    openai = write_jsonl(tmp_path / "chat.jsonl", [chat, silent])
    prepared = prepare(
        tmp_path,
        {"adapter": "trajectory", "path": [str(tmp_path / "part-*.jsonl")]},
        {"adapter": "openai_chat", "path": str(openai)},
        validation_share=0.0,
    )
    assert [row.id for row in prepared.train[:4]] == ["a0", "a1", "b0", "b1"]
    assert len(prepared.manifest["sources"][0]["files"]) == 2
    assert prepared.manifest["sources"][1]["dropped"] == {"no turn to train on": 1}


def test_pairs_make_a_set_of_their_own_kind(tmp_path: Path) -> None:
    pairs = [pair(index).model_dump(mode="json") for index in range(4)]
    prepared = prepare(tmp_path, {"adapter": "pairs", "path": str(write_jsonl(tmp_path / "pairs.jsonl", pairs))})
    assert prepared.kind == "pair" and isinstance(prepared.train[0], PreferencePair)
    assert len(prepared.train) + len(prepared.validation) == 4


def pair(index: int) -> PreferencePair:
    return PreferencePair(
        prompt=(Message(role="user", content=f"질문 {index}"),),
        chosen=(Message(role="assistant", content="a"),),
        rejected=(Message(role="assistant", content="b"),),
        id=f"p{index}",
        source="s",
    )


# --- mistakes ---


def write_config(tmp_path: Path, value: Any) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(value if isinstance(value, str) else yaml.safe_dump(value, allow_unicode=True), encoding="utf-8")
    return path


GOOD = {"adapter": "trajectory", "path": "x.jsonl"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"sources": [GOOD], "sead": 1}, r"config\.yaml: field 'sead' is unknown\. Did you mean 'seed'"),
        ({"sources": [{**GOOD, "wieght": 1.0}]}, r"'sources\.0\.wieght' is unknown\. Did you mean 'weight'"),
        ({"sources": [{**GOOD, "outcomes": ["succes"]}]}, r"'sources\.0\.outcomes\.0'.*Did you mean 'success'"),
        ({"sources": [{**GOOD, "weight": 0.0}]}, r"'sources\.0\.weight'.*greater than 0"),
        ({"sources": [{**GOOD, "weight": "2"}]}, r"'sources\.0\.weight'.*got '2'"),
        ({"sources": [{**GOOD, "weight": float("inf")}]}, r"'sources\.0\.weight'.*finite"),
        ({"sources": [{**GOOD, "max_rows": 1.5}]}, r"'sources\.0\.max_rows'"),
        ({"sources": [{**GOOD, "path": 5}]}, r"'sources\.0\.path'.*got 5"),
        ({"sources": [{**GOOD, "path": []}]}, r"'sources\.0\.path'"),
        ({"sources": [], "seed": 1}, r"'sources'"),
        ({"seed": 1}, r"field 'sources' is missing"),
        ({"sources": [GOOD], "seed": "7"}, r"'seed'.*got '7'"),
        ({"sources": [GOOD], "validation_share": 1.0}, r"'validation_share'.*less than 1"),
        ("seed: 1\nseed: 2\n", r"config\.yaml:2: not YAML: key 'seed' stands twice"),
        ("seed: [1\n", r"config\.yaml:\d: not YAML"),
        ("- a\n", r"config\.yaml: a config is a mapping"),
        ("", r"config\.yaml: a config is a mapping"),
    ],
)
def test_config_mistakes_name_file_key_and_value(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_config(write_config(tmp_path, value), BuildConfig)


def test_missing_config(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml: cannot be read: No such file"):
        read_config(tmp_path / "none.yaml", BuildConfig)


def test_names_are_looked_up_before_anything_is_read(tmp_path: Path) -> None:
    good = trajectories(tmp_path, records(1))
    chats = {"adapter": "pairs", "path": good["path"]}
    for sources, message in [
        (
            [{**good, "adapter": "trajectori"}],
            r"sources\.0: there is no adapter 'trajectori'\. Did you mean 'trajectory'",
        ),
        ([good, {**good, "path": "nowhere/*.jsonl"}], r"sources\.1: nowhere/\*\.jsonl: there is no such file"),
        ([{**good, "adapter": "my.module:row"}], r"sources\.0: adapter .* is named on the command line only"),
        ([{**good, "revision": "main"}], r"sources\.0: revision: only a dataset on the hub has one"),
        ([{**good, "path": [good["path"], good["path"]]}], r"sources\.0: .* is named twice"),
        ([{**chats, "outcomes": ["success"]}], r"sources\.0: outcomes: only adapters whose rows are traj"),
        ([good, chats], r"sources are of two kinds: 'trajectory' gives chats, 'pairs' gives pairs"),
    ]:
        with pytest.raises(UserError, match=message):
            build(config_of(tmp_path, *sources), name="config.yaml")
    assert not (tmp_path / "set").exists()
    with pytest.raises(UserError, match="'out' is missing"):
        build(BuildConfig.model_validate({"sources": [good]}))


def test_a_bad_line_stops_the_build_and_leaves_what_was_there(tmp_path: Path) -> None:
    source = trajectories(tmp_path, records(3))
    prepare(tmp_path, source)
    before = {path.name: path.read_bytes() for path in (tmp_path / "set").iterdir()}
    with open(source["path"], "a", encoding="utf-8") as file:
        file.write("{\n")
    with pytest.raises(UserError, match=r"records\.jsonl:4: not JSON(.|\n)*data validate"):
        build(config_of(tmp_path, source))
    assert {path.name: path.read_bytes() for path in (tmp_path / "set").iterdir()} == before
    with pytest.raises(UserError, match=r"records\.jsonl:4: not JSON"):
        build(config_of(tmp_path, source), out=tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []
    with pytest.raises(UserError, match="broken-off"):
        read_prepared(tmp_path / "other")


def test_an_empty_result_names_the_reasons(tmp_path: Path) -> None:
    rows = [*records(3, outcome="failure"), record(id="x", metadata={})]
    with pytest.raises(UserError, match=r"no row is left of 4(.|\n)*3 x outcome is failure\n  1 x no instruction"):
        build(config_of(tmp_path, trajectories(tmp_path, rows)))
    with pytest.raises(UserError, match="the file is empty"):
        build(config_of(tmp_path, trajectories(tmp_path, [])))


def test_a_changed_or_missing_set_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    with pytest.raises(UserError, match="no such folder"):
        read_prepared(folder)
    prepare(tmp_path, trajectories(tmp_path, records(6)))
    manifest = (folder / "manifest.json").read_text(encoding="utf-8")
    for path, text, message in [
        ("manifest.json", "{}", "not a manifest"),
        ("manifest.json", manifest.replace('"schema_version": "', '"schema_version": "0.'), "made with schema 0."),
        ("train.jsonl", "", r"train\.jsonl: changed since"),
    ]:
        before = (folder / path).read_bytes()
        (folder / path).write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=message):
            read_prepared(folder)
        (folder / path).write_bytes(before)
    # A set made by hand, its hash in the manifest and all, is still checked row by row.
    by_hand = b'{"messages": [], "source": "me"}\n'
    old = hashlib.sha256((folder / "train.jsonl").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(manifest.replace(old, hashlib.sha256(by_hand).hexdigest()), encoding="utf-8")
    before = (folder / "train.jsonl").read_bytes()
    (folder / "train.jsonl").write_bytes(by_hand)
    with pytest.raises(UserError, match=r"train\.jsonl:1: "):
        read_prepared(folder)
    (folder / "train.jsonl").write_bytes(before)
    (folder / "manifest.json").write_text(manifest, encoding="utf-8")
    (folder / "validation.jsonl").unlink()
    with pytest.raises(UserError, match=r"validation\.jsonl: missing"):
        read_prepared(folder)


# --- promise 5: Arrow invents nothing ---

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def chat_with(arguments: dict[str, Any], name: str = "x") -> Chat:
    call = ToolCall(id="c", name="f", arguments=arguments)
    return Chat(messages=(Message(role="user"), Message(role="assistant", tool_calls=(call,))), id=name, source="s")


def arguments_in(dataset: Any) -> list[str]:
    rows = [dataset_row(example) for example in dataset]
    return [json.dumps(row.messages[1].tool_calls[0].arguments) for row in rows if isinstance(row, Chat)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.dictionaries(st.text(max_size=3), VALUES, max_size=3), min_size=1, max_size=4))
def test_arguments_come_back_exactly_as_written(arguments: list[dict[str, Any]]) -> None:
    dataset = rows_to_dataset([chat_with(value) for value in arguments])
    assert arguments_in(dataset) == [json.dumps(value) for value in arguments]


def test_arguments_survive_map_and_concatenate() -> None:
    import datasets  # noqa: PLC0415 - slow, and only here

    # Each of these is changed by some column type of Arrow: missing keys, null, mixed types, precision, size.
    first: list[dict[str, Any]] = [{"path": "a"}, {"limit": None}, {"mixed": [1, "x", None, {"k": 1.0}]}]
    second: list[dict[str, Any]] = [{}, {"lat": 37.566535123456789, "third": 1 / 3}, {"big": 2**70, "flag": True}]
    one, two = (rows_to_dataset([chat_with(value) for value in values]) for values in (first, second))
    written = [json.dumps(value) for value in (*first, *second)]
    joined = datasets.concatenate_datasets([one, two])
    assert arguments_in(joined) == written
    mapped = joined.map(lambda example: {"length": len(example["row"])}, load_from_cache_file=False)
    assert arguments_in(mapped) == written and mapped[0]["length"] > 0
    assert set(mapped.column_names) == {"id", "kind", "row", "length"}


def test_pairs_go_through_arrow_too() -> None:
    pairs = [pair(index) for index in range(2)]
    assert [dataset_row(example) for example in rows_to_dataset(pairs)] == pairs


def test_rendered_rows_keep_their_columns_and_nested_ones_are_refused() -> None:
    rows = [{"id": "a", "ids": [1, 2], "weights": [0.0, 1 / 3]}, {"id": "b", "ids": [], "weights": []}]
    dataset = rows_to_dataset(rows)
    assert list(dataset) == rows
    with pytest.raises(TypeError, match="column 'messages' is nested"):
        rows_to_dataset([{"messages": [{"role": "user"}]}])


def test_failed_steps_keep_weight_zero_through_the_whole_path(tmp_path: Path) -> None:
    actions = [action("f", {}, error="no"), action("f", {"a": None}, output=1)]
    prepared = prepare(tmp_path, trajectories(tmp_path, [record(action_sequence=actions)]))
    (chat,) = prepared.train
    assert [m.loss_weight for m in chat.messages if m.role == "assistant"] == [0.0, 1.0, 1.0]
    assert chat.messages[3].tool_calls[0].arguments == {"a": None}


def test_a_manifest_comes_back_byte_for_byte_and_an_older_one_as_it_was(tmp_path: Path) -> None:
    prepared = prepare(tmp_path, trajectories(tmp_path, records(4)))
    path = prepared.folder / "manifest.json"
    text = path.read_text(encoding="utf-8")
    read = PreparedSet.model_validate_json(text).model_dump(mode="json", exclude_unset=True)
    assert json.dumps(read, ensure_ascii=False, indent=2) + "\n" == text
    older = json.loads(text)
    del older["sources"][0]["redacted"]
    older["splits"]["train"]["만든 곳"] = "elsewhere"
    path.write_text(json.dumps(older, ensure_ascii=False), encoding="utf-8")
    assert read_prepared(prepared.folder).manifest == older
