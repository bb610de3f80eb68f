"""Zip archives: taken apart and put together."""

from __future__ import annotations

from typing import Any

from pydantic import JsonValue

from benchmark.worlds.expert import Step
from benchmark.worlds.files.families.family import (
    REPAIRS,
    Content,
    FilesFamily,
    FilesPlan,
    Parameters,
    faults,
    looking,
    note,
    paths,
    plan_of,
    reading,
    step,
    table,
    trouble,
    writing,
)
from benchmark.worlds.files.file_formats import write_zip
from benchmark.worlds.pools import Draw
from benchmark.worlds.world import Task


def _draw_unzip(draw: Draw) -> Parameters:
    names: list[JsonValue] = [f"{draw.word()}{suffix}" for suffix in (".txt", ".csv", ".json")]
    draw.random.shuffle(names)
    return {
        **trouble(draw),
        "archive": f"{draw.folder()}/{draw.word()}.zip",
        "names": names,
        "name": next(name for name in names if str(name).endswith(".csv")),
        "texts": [note(draw) for _ in names],
        "target": f"{draw.folder()}/{draw.word()}.csv",
    }


def _plan_unzip(task: Task) -> FilesPlan:
    p: Any = task.parameters
    members = dict(zip(p["names"], p["texts"], strict=True))
    steps = (
        (step("list_zip", path=p["archive"]),),
        (step("extract_file", archive=p["archive"], name=p["name"], target=p["target"]),),
    )
    archive = write_zip({name: text.encode("utf-8") for name, text in members.items()})
    return plan_of({p["archive"]: archive}, {p["target"]: members[p["name"]]}, steps)


def _draw_unpack(draw: Draw) -> Parameters:
    names: list[JsonValue] = [f"{draw.word()}.txt" for _ in range(3)]
    texts: list[JsonValue] = [note(draw) for _ in names]
    return {
        **trouble(draw),
        "archive": f"{draw.folder()}/{draw.word()}.zip",
        "folder": draw.folder(),
        "names": names,
        "texts": texts,
    }


def _plan_unpack(task: Task) -> FilesPlan:
    p: Any = task.parameters
    members = dict(zip(p["names"], p["texts"], strict=True))
    unzip = step("unzip_file", archive=p["archive"], folder=p["folder"])
    archive = write_zip({name: text.encode("utf-8") for name, text in members.items()})
    return plan_of(
        {p["archive"]: archive}, {f"{p['folder']}/{name}": text for name, text in members.items()}, ((unzip,),)
    )


def _draw_pack(draw: Draw) -> Parameters:
    folder = draw.folder()
    return {
        **trouble(draw),
        "paths": paths(draw, 3, ".txt", folder),
        "texts": [note(draw) for _ in range(3)],
        "other": f"{folder}/{draw.word()}.txt",
        "archive": f"{draw.folder()}/{draw.word()}.zip",
    }


def _pack(p: Any) -> tuple[dict[str, Content], bytes, tuple[Step, ...]]:
    """The files, the archive of them, and the calls that make it."""
    files: dict[str, Content] = dict(zip(p["paths"], p["texts"], strict=True))
    archive = write_zip({path.rsplit("/")[-1]: str(text).encode("utf-8") for path, text in files.items()})
    return files, archive, tuple(step("add_to_zip", path=path, archive=p["archive"]) for path in files)


def _plan_pack(task: Task) -> FilesPlan:
    p: Any = task.parameters
    files, archive, calls = _pack(p)
    return plan_of({**files, p["other"]: "keep"}, {p["archive"]: archive}, (calls,))


def _draw_find_pack(draw: Draw) -> Parameters:
    stem = draw.word()
    return {
        **_draw_pack(draw),
        "stem": stem,
        "paths": [f"{draw.folder()}/{stem}-{draw.word()}.txt" for _ in range(3)],
    }


def _plan_find_pack(task: Task) -> FilesPlan:
    p: Any = task.parameters
    plan = _plan_pack(task)
    find = step("find_files", pattern=f"{p['stem']}-*")
    return plan_of(plan.before, plan.goals, ((find,), *plan.stages))


def _draw_repack(draw: Draw) -> Parameters:
    folder = draw.folder()
    stem = draw.word()
    return {
        **trouble(draw),
        "archive": f"{draw.folder()}/{draw.word()}.zip",
        "name": f"{stem}.csv",
        "note": f"{draw.word()}.txt",
        "text": note(draw),
        "source": f"{folder}/{stem}.csv",
        "target": f"{folder}/{draw.word()}.json",
        "other": f"{draw.folder()}/{draw.word()}.zip",
        "items": [draw.item(), draw.item()],
        "prices": [draw.number(100, 999), draw.number(100, 999)],
    }


def _plan_repack(task: Task) -> FilesPlan:
    p: Any = task.parameters
    as_csv, as_json = (table(suffix, item=p["items"], price=p["prices"]) for suffix in ("csv", "json"))
    before = write_zip({p["note"]: p["text"].encode("utf-8"), p["name"]: as_csv.encode("utf-8")})
    after = write_zip({p["target"].rsplit("/")[-1]: as_json.encode("utf-8")})
    steps = (
        (step("list_zip", path=p["archive"]),),
        (step("extract_file", archive=p["archive"], name=p["name"], target=p["source"]),),
        (step("convert_file", source=p["source"], target=p["target"]),),
        (step("add_to_zip", path=p["target"], archive=p["other"]),),
    )
    return plan_of({p["archive"]: before}, {p["source"]: as_csv, p["target"]: as_json, p["other"]: after}, steps)


UNPACK = FilesFamily(
    name="unpack",
    tier=1,
    tools=("list_zip", "unzip_file", "extract_file", *REPAIRS),
    draw=_draw_unpack,
    english=('Unpack all of "{archive}" into the folder "{folder}".', 'Unzip "{archive}" into "{folder}".'),
    korean='"{archive}"의 압축을 "{folder}" 폴더에 모두 푸세요.',
    facts=("archive", "folder"),
    faults=writing("unzip_file", "not_found"),
    plan=_plan_unpack,
)


UNZIP = FilesFamily(
    name="unzip",
    tier=2,
    tools=("list_zip", "unzip_file", "extract_file", *REPAIRS),
    draw=_draw_unzip,
    english=(
        'The archive "{archive}" holds one .csv file. Extract only that, to "{target}".',
        'Copy the only .csv file in "{archive}" to "{target}".',
    ),
    korean='"{archive}" 안의 하나뿐인 .csv 파일만 "{target}"(으)로 꺼내세요.',
    facts=("name", "target"),
    faults=(*reading("list_zip"), *writing("extract_file")),
    plan=_plan_unzip,
)


PACK = FilesFamily(
    name="pack",
    tier=3,
    tools=("list_folder", "add_to_zip", "move_file", *REPAIRS),
    draw=_draw_pack,
    english=(
        'Pack "{paths[0]}", "{paths[1]}" and "{paths[2]}" into "{archive}".',
        'Make the archive "{archive}" of "{paths[2]}", "{paths[0]}" and "{paths[1]}", and of nothing else.',
    ),
    korean='"{paths[0]}", "{paths[1]}", "{paths[2]}"을(를) "{archive}"(으)로 압축하세요.',
    facts=("archive",),
    faults=(*writing("add_to_zip"), *faults("add_to_zip", "not_found", "permission_denied", nth=1)),
    plan=_plan_pack,
)


REPACK = FilesFamily(
    name="repack",
    tier=4,
    tools=("list_zip", "extract_file", "convert_file", "add_to_zip", "unzip_file", *REPAIRS),
    draw=_draw_repack,
    english=(
        'Copy the .csv file in "{archive}" to "{source}", convert that to "{target}" and put the result into a new '
        'archive "{other}".',
    ),
    korean='"{archive}" 안의 .csv 파일을 "{source}"(으)로 꺼내 "{target}"(으)로 변환하고, 그 결과를 새 압축 파일 '
    '"{other}"에 넣으세요.',
    facts=("name", "target", "other"),
    faults=(*reading("list_zip"), *writing("extract_file"), *writing("convert_file"), *writing("add_to_zip")),
    plan=_plan_repack,
)


FIND_PACK = FilesFamily(
    name="find-pack",
    tier=4,
    held_out=True,
    tools=("list_folder", "find_files", "add_to_zip", "move_file", *REPAIRS),
    draw=_draw_find_pack,
    english=('Find the files "{stem}-*", which are in several folders, and pack them into "{archive}".',),
    korean='여러 폴더에 있는 "{stem}-*" 파일을 찾아 "{archive}"(으)로 압축하세요.',
    facts=("archive",),
    faults=(*looking("find_files"), *writing("add_to_zip", "not_found"), *faults("add_to_zip", "busy", nth=2)),
    plan=_plan_find_pack,
)
