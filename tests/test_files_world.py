"""The files world: every family, language, fault and size solved; nothing leads out of the folder; formats judged by value."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.agent.episodes import FROZEN_START, run_tasks
from benchmark.agent.policies import Expert
from benchmark.kpis import kpis
from benchmark.worlds.family import CONTEXT_TOKENS, families_to_tasks
from benchmark.worlds.files.families import FAMILIES
from benchmark.worlds.files.families.family import FilesFamily
from benchmark.worlds.files.file_formats import (
    FIELDS,
    change_encoding,
    convert_text,
    header,
    name_of_encoding,
    read_zip,
    same_content,
    write_zip,
)
from benchmark.worlds.files.world import FILES, FilesWorld
from benchmark.worlds.tools import ToolError
from benchmark.worlds.world import Fault, Split, Task, ToolResult
from data.records import Action, Outcome, Trajectory
from data.trajectories import trajectory_to_chat

ROOT = Path(__file__).resolve().parents[1]
FAMILY_OF = {family.name: family for family in FAMILIES}
HELD_OUT = {"patch", "encode-convert", "picture-size", "rules", "find-pack"}
KINDS = {
    *("busy", "timed_out", "malformed", "not_found", "permission_denied"),
    *("disk_full", "locked", "unmounted", "stale"),
}
STATES = {"permission_denied", "disk_full", "locked", "unmounted"}
"""Kinds that stay until they are removed, so that calls side by side meet them too."""


@lru_cache
def drawn(name: str, size: int = 0, split: Split = "test", seed: int = 3) -> list[Task]:
    family: FilesFamily = replace(FAMILY_OF[name], context_tokens=(size,) if size else ())
    return families_to_tasks([family], FILES.tools, world="files", split=split, count=12, seed=seed)


def task_of(
    name: str, *, language: str = "en", size: int = 0, split: Split = "test", faults: Sequence[Fault] = ()
) -> Task:
    """The first task of a family in a language, with these faults."""
    size = size or (512 if FAMILY_OF[name].context_tokens else 0)
    found = next(task for task in drawn(name, size, split) if task.language == language)
    return replace(found, faults=tuple(faults))


def record_of(task: Task, policy: Any = None) -> Trajectory:
    [record] = run_tasks(policy or Expert(), [task], label="x", max_steps=40, start=FROZEN_START)
    return record


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from leaves(each)
    else:
        yield value


def as_action(command: str, arguments: dict[str, Any], result: ToolResult) -> Action:
    given = {"command": command, "input": arguments, "output": result.output, "error": result.error}
    return Action.model_validate({**given, "start_time": FROZEN_START, "end_time": FROZEN_START})


# Families.


def test_there_are_families_of_every_size() -> None:
    train = {family.name for family in FAMILIES if not family.held_out}
    assert len(train) >= 12 and {family.name for family in FAMILIES if family.held_out} == HELD_OUT
    assert {family.tier for family in FAMILIES} == {1, 2, 3, 4, 5, 6, 7, 12}
    assert {fault.kind for family in FAMILIES for fault in family.faults} == KINDS
    assert {family.name for family in FAMILIES if family.context_tokens} == {"told", "recall", "rules"}
    needs = {
        "permission_denied": "make_writable",
        "disk_full": "delete_file",
        "locked": "wait",
        "unmounted": "mount_folder",
    }
    needs["stale"] = "read_file"
    for family in FAMILIES:
        assert family.korean and family.faults, family.name
        assert {fault.tool for fault in family.faults} <= set(family.tools), family.name
        needed = {needs[fault.kind] for fault in family.faults if fault.kind in needs}
        assert needed <= set(family.tools) or family.is_short, family.name
        used = {move.command for group in FAMILY_OF[family.name].plan(drawn(family.name)[0]).stages for move in group}
        assert used < set(family.tools) or family.is_short, f"{family.name} has no tool to be distracted by"


def test_every_tool_is_offered_and_used() -> None:
    offered = {tool for family in FAMILIES for tool in family.tools}
    assert offered == set(FILES.tools)


def test_thousands_of_tasks_of_a_family_are_distinct() -> None:
    for name in ("write", "encode", "permit", "patch"):
        made = families_to_tasks([FAMILY_OF[name]], FILES.tools, world="files", split="test", count=3000, seed=1)
        assert len({json.dumps(task.parameters, sort_keys=True) for task in made}) == 3000


# The expert.


def check_solved(task: Task) -> None:
    record = record_of(task)
    assert record.outcome is Outcome.SUCCESS, (task.instruction, record.action_sequence)
    errors = [action.error for action in record.action_sequence if action.error is not None]
    struck = [kind for _, kind in record.metadata.model_extra["injected"]]  # type: ignore[index]
    if not task.faults:
        assert (len(record.action_sequence), errors, struck) == (task.tier, [], [])
    else:
        [fault] = task.faults
        assert struck == [fault.kind] and errors
        is_met_again = fault.kind in STATES or task.family == "picture-size"  # which reads one file twice at once
        assert len(errors) == 1 or (is_met_again and any(action.turn for action in record.action_sequence))
    assert record_of(task).to_json() == record.to_json()


@pytest.mark.parametrize("size", CONTEXT_TOKENS)
@pytest.mark.parametrize("name", [family.name for family in FAMILIES if family.context_tokens])
def test_the_expert_solves_every_size_of_context(name: str, size: int) -> None:
    for language in ("en", "ko"):
        task = task_of(name, language=language, size=size)
        assert task.context_tokens == size
        check_solved(task)
    check_solved(replace(task, faults=(FAMILY_OF[name].faults[0],)))
    record = record_of(replace(task, facts={"code": task.facts["code"]}))
    assert 0.95 * size < kpis([record])["retention_tokens"].value < 1.05 * size + 100  # type: ignore[operator]


def test_what_is_independent_is_called_side_by_side() -> None:
    record = record_of(task_of("migrate"))
    chat: Any = trajectory_to_chat(record)
    assert [len(message.tool_calls) for message in chat.messages if message.role == "assistant"] == [1, 5, 5, 1, 0]
    alone = record_of(task_of("migrate"), OneByOne())
    assert alone.outcome is Outcome.SUCCESS and len(alone.action_sequence) == 12


class OneByOne(Expert):
    """Makes only the first call of each turn."""

    def act(self, episodes: Any) -> Any:
        return [
            turn.model_copy(update={"tool_calls": turn.tool_calls[:1]})
            for turn in super().act(episodes)
            if not isinstance(turn, tuple)
        ]


def test_the_expert_undoes_wrong_moves() -> None:
    task = task_of("move")
    p: Any = task.parameters
    wrong = [(p["source"], "wrong/a.txt"), (p["other"], p["source"]), ("wrong/a.txt", p["other"])]
    with FILES.open(task) as live:
        history: list[Action] = []
        for source, target in wrong:
            given = {"source": source, "target": target}
            history.append(as_action("move_file", given, live.call("move_file", given)))
            assert history[-1].error is None
        finish(live, history)
        assert live.verdict().outcome is Outcome.SUCCESS


def test_the_expert_writes_back_what_it_has_read_and_deletes_what_is_too_many() -> None:
    task = task_of("convert-price")
    p: Any = task.parameters
    over = ("write_file", {"path": p["source"], "text": "gone"})
    for calls in ([("read_file", {"path": p["source"]}), over], [over]):
        with FILES.open(task) as live:
            history = [as_action(name, given, live.call(name, given)) for name, given in calls]
            answer = finish(live, history)
            assert (answer == "Done.") == (live.verdict().outcome is Outcome.SUCCESS) == (len(calls) == 2)
    task = task_of("told")
    with FILES.open(task) as live:
        given = {"path": "more/x.txt", "text": "x"}
        history = [as_action("write_file", given, live.call("write_file", given))]
        assert finish(live, history) == "Done."
        assert "delete_file" in [action.command for action in history]


def finish(live: FilesWorld, history: list[Action]) -> str | None:
    for _ in range(40):
        move = live.expert(history)
        if move.command is None:
            return move.answer
        history.append(as_action(move.command, move.input, live.call(move.command, move.input)))
    raise AssertionError("the expert does not come to an end")


# Verdicts.


def test_every_goal_counts_and_damage_weighs_as_much() -> None:
    task = task_of("convert-price")
    p: Any = task.parameters
    with FILES.open(task) as live:
        live.call("convert_file", {"source": p["source"], "target": p["target"]})
        assert (live.verdict().outcome, live.verdict().score) == (Outcome.PARTIAL, 0.5)
        live.call("write_file", {"path": p["note"], "text": f"{p['price']}\n"})
        assert live.verdict().outcome is Outcome.SUCCESS
        live.call("write_file", {"path": "more.txt", "text": "x"})
        assert live.verdict().score == 2 / 3 and "more.txt is too many" in live.verdict().why


def test_a_copy_is_no_move_and_a_wrong_place_is_nothing() -> None:
    task = task_of("find-move")
    p: Any = task.parameters
    with FILES.open(task) as live:
        live.call("move_file", {"source": p["source"], "target": "wrong.txt"})
        assert live.verdict().score == 0
    with FILES.open(task) as live:
        place = live._place(p["target"])
        place.parent.mkdir(exist_ok=True)
        place.write_text(p["text"])
        assert live.verdict().score == 0.5 and "left behind" in live.verdict().why


def test_permissions_are_goals_where_a_task_asks_for_them() -> None:
    task = task_of("permit")
    p: Any = task.parameters
    with FILES.open(task) as live:
        for number, path in enumerate(p["paths"], 1):
            assert live.call("set_permissions", {"path": path, "mode": p["mode"]}).output == "ok"
            assert live.verdict().score == number / 3
        assert live.call("set_permissions", {"path": p["others"][0], "mode": p["mode"]}).error is None
        assert live.verdict().score == 0.75 and "has other permissions" in live.verdict().why
        for mode in ("999", "7777", "77", "rwx", "040", "", "٦٤٠"):
            assert "octal" in str(live.call("set_permissions", {"path": p["paths"][0], "mode": mode}).error)


def test_parts_of_every_task_score_between_nothing_and_all() -> None:
    for name in FAMILY_OF:
        task = task_of(name)
        with FILES.open(task) as live:
            scores = [live.verdict().score]
            history: list[Action] = []
            while (move := live.expert(history)).command is not None:
                history.append(as_action(move.command, move.input, live.call(move.command, move.input)))
                scores.append(live.verdict().score)
        assert scores[0] == 0 and scores[-1] == 1 and scores == sorted(scores), (name, scores)


# Faults.


def test_a_line_that_somebody_added_stays() -> None:
    task = task_of("correct", faults=[Fault("stale", "edit_file", 0)])
    p: Any = task.parameters
    edit = {"path": p["source"], "old": str(p["number"]), "new": str(p["new"])}
    with FILES.open(task) as live:
        assert live.call("edit_file", edit).injected == "stale"
        assert "read it again" in str(live.call("edit_file", edit).error)
        live.call("write_file", {"path": p["source"], "text": p["text"].replace(str(p["number"]), str(p["new"]))})
        assert live.verdict().score == 0, "the added line is lost"
    with FILES.open(task) as live:
        live.call("edit_file", edit)
        assert p["junk"] in str(live.call("read_file", {"path": p["source"]}).output)
        assert live.call("edit_file", edit).output == "ok"
        assert live.verdict().outcome is Outcome.SUCCESS


def test_a_lock_ends_with_the_virtual_clock() -> None:
    task = task_of("told", faults=[Fault("locked", "write_file", 0)])
    p: Any = task.parameters
    write = {"path": p["target"], "text": p["code"]}
    with FILES.open(task) as live:
        locked = live.call("write_file", write)
        assert (locked.injected, locked.seconds) == ("locked", 0)
        assert locked.error == f"locked by another program: {p['target']}, wait {p['wait_s']} seconds"
        assert live.call("wait", {"seconds": p["wait_s"] - 1}).seconds == p["wait_s"] - 1
        assert str(live.call("write_file", write).error).endswith("wait 1 seconds")
        assert live.call("wait", {"seconds": 601}).error is not None
        live.call("wait", {"seconds": 1})
        assert live.call("write_file", write).output == "ok"


def test_read_only_is_kept_even_as_root() -> None:
    task = task_of("write", faults=[Fault("permission_denied", "write_file", 0)])
    p: Any = task.parameters
    write = {"path": p["path"], "text": p["text"]}
    with FILES.open(task) as live:
        first = live.call("write_file", write)
        assert first.injected == "permission_denied" and first.error is not None
        locked = first.error.removeprefix("permission denied: ").removesuffix(" is read-only")
        again = live.call("write_file", write)
        assert (again.error, again.injected) == (first.error, None)
        assert live.call("make_writable", {"path": locked}).error is None
        assert live.call("write_file", write).error is None
    assert not live.root.exists()


# Calls.


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../../x", "link/x.txt", "link", "", ".", "a\0b", "a/" * 600 + "b"]
)
def test_no_path_leads_out(path: str, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("outside")
    every = replace(task_of("find-copy"), tools=tuple(FILES.tools.values()))
    p: Any = every.parameters
    with FILES.open(every) as live:
        (live.root / "link").symlink_to(tmp_path)
        for name, tool in FILES.tools.items():
            properties: Any = tool.function.parameters["properties"]
            places = {"path", "source", "target", "archive", "folder"} & set(properties)
            fixed = {"source": p["source"], "path": p["source"], "name": "x.txt", "mode": "600", "order": "big"}
            for place in places:
                given = {key: 1 if kind["type"] == "integer" else "utf-8" for key, kind in properties.items()}
                given |= {key: value for key, value in fixed.items() if key in properties} | {place: path}
                if path not in ("", ".") or name not in ("list_folder", "make_writable"):
                    assert live.call(name, given).error is not None, (name, given)
        assert "outside" not in str(live.call("search_text", {"text": "o"}).output).splitlines()
        assert live.call("read_file", {"path": p["source"]}).output == p["text"]
    assert [(tmp_path / "x.txt").read_text(), *os.listdir(tmp_path)] == ["outside", "x.txt"]


def raw_zip(*names: str, content: bytes = b"x", **given: Any) -> bytes:
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", **given) as archive:
        for name in names:
            archive.writestr(name, content)
    return output.getvalue()


@pytest.mark.parametrize(
    ("archive", "told"),
    [
        (raw_zip("a.txt", "../../out.txt"), "outside the workspace"),
        (raw_zip("/tmp/out.txt"), "outside the workspace"),
        (raw_zip("link/out.txt"), "symbolic links"),
        (raw_zip("a", "a/b"), "file and a folder"),
        (raw_zip("x" * 300), "too long"),
        (raw_zip(*(f"{number}.txt" for number in range(401))), "too much"),
        (raw_zip("bomb", content=bytes(2 << 20), compression=zipfile.ZIP_DEFLATED), "too much"),
        (raw_zip("a", compression=zipfile.ZIP_LZMA), "not known here"),
        (raw_zip("a")[:-5], "not a zip archive"),
        (b"PK\x03\x04", "not a zip archive"),
        (b"", "not a zip archive"),
    ],
)  # fmt: skip
def test_archives_lead_nowhere(archive: bytes, told: str, tmp_path: Path) -> None:
    task = task_of("unpack")
    p: Any = task.parameters
    with FILES.open(task) as live:
        (live.root / p["archive"]).write_bytes(archive)
        (live.root / p["folder"]).mkdir(exist_ok=True)
        (live.root / p["folder"] / "link").symlink_to(tmp_path)
        before = live.tree()
        assert told in str(live.call("unzip_file", {"archive": p["archive"], "folder": p["folder"]}).error)
        assert live.tree() == before and not os.listdir(tmp_path)


TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["a.csv", "a.json", "a.toml", "a.xml", "a.zip", "a/b.zip", "a", "..", "/etc", "link", "link/a", ""]
    ),
    st.sampled_from(
        ["utf-8", "cp949", "utf-16", "big", "little", "640", "*", "[", "x,y\n1,2\n", '[{"x": 1}]', "<rows/>"]
    ),
)


@settings(max_examples=250, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(sorted(FAMILY_OF)),
    calls=st.lists(
        st.tuples(
            st.sampled_from(sorted(FILES.tools)),
            st.integers(0, 9),
            st.lists(TEXTS, min_size=4, max_size=4),
            st.lists(st.one_of(st.integers(-2, 70), st.integers()), min_size=3, max_size=3),
        ),
        max_size=8,
    ),
    fault=st.sampled_from(sorted(KINDS)),
)
def test_no_call_crashes_or_escapes(name: str, calls: list[Any], fault: str) -> None:
    """Random calls of every tool, half of them with paths that are there; then the expert has to come to an end."""
    task = replace(task_of(name), tools=tuple(FILES.tools.values()))
    task = replace(task, parameters={"elsewhere": "attic", "junk": "x", "wait_s": 30, **task.parameters})
    task = replace(task, faults=(Fault(fault, "write_file", 0),)) if fault not in ("malformed", "stale") else task
    with (
        tempfile.TemporaryDirectory() as outer,
        mock.patch.object(tempfile, "tempdir", outer),
        mock.patch.dict(os.environ, TMPDIR=outer),
    ):
        (Path(outer) / "kept").write_text("kept")
        with FILES.open(task) as live:
            (live.root / "link").symlink_to(outer)
            there = sorted(live.before)
            history = []
            for command, which, texts, numbers in calls:
                properties: Any = FILES.tools[command].function.parameters["properties"]
                given: dict[str, Any] = {}
                for key, kind in properties.items():
                    given[key] = numbers[len(given) % 3] if kind["type"] == "integer" else texts[len(given) % 4]
                    if key in ("path", "source", "archive") and which < 5:
                        given[key] = there[which % len(there)]
                result = live.call(command, given)
                history.append(as_action(command, given, result))
                assert outer not in history[-1].model_dump_json()
                assert 0 <= live.verdict().score <= 1
            answer = finish(live, history)
            assert (answer == "Done.") == (live.verdict().score == 1)
            (live.root / "link").unlink()
        assert os.listdir(outer) == ["kept"] and (Path(outer) / "kept").read_text() == "kept"


def test_records_are_the_same_in_every_process_and_tell_nothing_of_the_machine() -> None:
    script = (
        "from benchmark.agent.episodes import FROZEN_START, run_tasks\nfrom benchmark.agent.policies import Expert\n"
        "from benchmark.worlds.files.world import FILES\n"
        "for record in run_tasks(Expert(mistakes=0.5, seed=1), FILES.tasks('test', 62, 6), label='x', max_steps=40, "
        "start=FROZEN_START):\n    print(record.to_json())"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed, "TMPDIR": folder},
            cwd=ROOT,
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed, folder in (("1", "/tmp"), ("2", "/var/tmp"))
    }
    [text] = texts
    assert not re.search(r"/tmp|/var|/dev|/root|/home|0x[0-9a-f]{6}|files-world", text)
    assert [json.loads(line)["outcome"] for line in text.splitlines()] == ["success"] * 62


# Formats.

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    keys=st.lists(st.from_regex(r"[a-z가-힣][a-z0-9가-힣_]{0,5}", fullmatch=True), min_size=1, max_size=3, unique=True),
    cells=st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=3),
    way=st.lists(st.sampled_from([".csv", ".json", ".toml", ".xml"]), min_size=1, max_size=4),
)
def test_a_table_is_converted_whole_or_not_at_all(keys: list[str], cells: list[list[str]], way: list[str]) -> None:
    rows = [dict(zip(keys, row, strict=False)) for row in cells]
    text, at = json.dumps(rows), ".json"
    for to in [*way, ".json"]:
        if to == at:
            continue
        try:
            text, at = convert_text(text, at, to), to
        except ToolError:
            return
    if at == ".json":
        assert json.loads(text) == rows


def test_tables_of_ordinary_values_pass_through_every_format() -> None:
    rows = [{"item": "배 & <사과>", "price": "12,5"}, {"item": 'a "b" #', "price": "'\\n"}]
    text = json.dumps(rows, ensure_ascii=False)
    for source, target in [(".json", ".xml"), (".xml", ".toml"), (".toml", ".csv"), (".csv", ".json")]:
        text = convert_text(text, source, target)
    assert json.loads(text) == rows


@pytest.mark.parametrize(
    ("text", "suffix"),
    [
        ('<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><rows><row><x>&b;</x></row></rows>', ".xml"),
        ("<rows>" * 5000, ".xml"),
        ("<rows><row><x><y/></x></row></rows>", ".xml"),
        ("[" * 100000, ".json"),
        ("row = " + "[" * 5000, ".toml"),
        ("row = 1979-05-27", ".toml"),
        ('[{"x": {"y": 1}}]', ".json"),
        ('[{"x": 1}, {"y": 1}]', ".json"),
        ("[]", ".json"),
        ("x,x\n1,2\n", ".csv"),
        ("x\n" + "y" * 200000 + "\n", ".csv"),
        ("", ".csv"),
    ],
)
def test_what_is_no_table_is_refused(text: str, suffix: str) -> None:
    with pytest.raises(ToolError, match="not a table"):
        convert_text(text, suffix, ".csv" if suffix != ".csv" else ".json")
    assert not same_content(f"a{suffix}", text.encode(), b"x,y\n1,2\n")


@pytest.mark.parametrize(
    ("path", "content", "same", "other"),
    [
        ("a.json", '[{"a": 1, "b": "2"}]', '[ {"b": "2",\n"a": 1} ]\n', '[{"a": true, "b": "2"}]'),
        ("a.csv", "a,b\n1,2\n", '"a","b"\r\n1,"2"', "a,b\n2,1\n"),
        ("a.toml", "a = 1\nb = 'x'", 'b = "x"\na = 1\n', "a = 1"),
        ("a.xml", "<a><b>1</b></a>", "<a>\n  <b>1</b>\n</a>", "<a><b>2</b></a>"),
        ("a.txt", "값 1", "값 1\n", "값  1"),
    ],
)
def test_formats_are_judged_by_value(path: str, content: str, same: str, other: str) -> None:
    assert same_content(path, same.encode(), content.encode())
    assert not same_content(path, other.encode(), content.encode())
    assert not same_content(path, b"\xff\xfe\x00", content.encode())
    packed = [write_zip({path: text.encode()}) for text in (content, same, other)]
    assert same_content("a.zip", packed[1], packed[0]) and not same_content("a.zip", packed[2], packed[0])


def test_encodings() -> None:
    text = "가나다 abc"
    for name in ("utf-8", "cp949", "utf-16"):
        assert name_of_encoding(text.encode(name)) == name
        assert change_encoding(text.encode(name), name, "utf-8") == text.encode()
    assert name_of_encoding(header("png", 5, 6)) == "binary"
    for old, new, content, told in [
        ("utf-8", "cp949", "😀".encode(), "cannot hold"),
        ("utf-8", "cp949", b"\xff", "no text in utf-8"),
        ("utf8", "cp949", b"", "Did you mean 'utf-8'"),
        ("cp949", "zip", b"", "unknown encoding 'zip'"),
    ]:
        with pytest.raises(ToolError, match=re.escape(told)):
            change_encoding(content, old, new)


@pytest.mark.parametrize("kind", FIELDS)
def test_headers_hold_their_numbers_where_they_say(kind: str) -> None:
    content = header(kind, 4711, 815)
    numbers = {"width": 4711, "height": 815, "rate": 4711}
    for name, (offset, size, order) in FIELDS[kind].items():
        assert int.from_bytes(content[offset : offset + size], order) == numbers[name]  # type: ignore[arg-type]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=6)), max_size=4), st.integers(0, 400))
def test_broken_archives_are_refused_or_read(changes: list[tuple[int, bytes]], cut: int) -> None:
    content = bytearray(raw_zip("a.txt", "b/가.txt", content=b"text" * 20, compression=zipfile.ZIP_DEFLATED))
    for at, change in changes:
        content[at % len(content) :][: len(change)] = change
        content[at % len(content) : at % len(content) + len(change)] = change
    try:
        members = read_zip(bytes(content[: len(content) - cut % 40]))
    except ToolError:
        return
    assert sum(map(len, members.values())) <= 1 << 20
