"""Tables in other formats, texts in other encodings."""

from __future__ import annotations

from itertools import permutations
from typing import Any

from pydantic import JsonValue

from benchmark.worlds.files.families.family import (
    REPAIRS,
    FilesFamily,
    FilesPlan,
    Language,
    Parameters,
    faults,
    looking,
    paths,
    pick,
    plan_of,
    read,
    reading,
    step,
    table,
    trouble,
    writing,
)
from benchmark.worlds.files.families.short import plan_convert
from benchmark.worlds.pools import Draw
from benchmark.worlds.world import Task


def _draw_format(draw: Draw) -> Parameters:
    pairs = [pair for pair in permutations(("csv", "json", "toml", "xml"), 2) if set(pair) != {"csv", "json"}]
    source, target = draw.random.choice(pairs)
    return {
        **trouble(draw),
        "source": f"{draw.folder()}/{draw.word()}.{source}",
        "target": f"{draw.folder()}/{draw.word()}.{target}",
        "items": [draw.item() for _ in range(3)],
        "prices": [draw.number(100, 999) for _ in range(3)],
    }


def _draw_encode(draw: Draw) -> Parameters:
    return {**trouble(draw), "path": f"{draw.folder()}/{draw.word()}.txt", "text": _korean_note(draw)}


def _korean_note(draw: Draw) -> str:
    return f"{draw.korean()} {draw.number(10, 99)} {draw.korean()}"


def _encodings(p: Any, language: Language) -> dict[str, str]:
    pairs = (("cp949", "utf-8"), ("cp949", "utf-8"), ("utf-8", "cp949"), ("utf-16", "utf-8"))
    return dict(zip(("old", "new"), pick(pairs, p["path"]), strict=True))


def _plan_encode(task: Task) -> FilesPlan:
    p: Any = task.parameters
    names = _encodings(p, task.language)
    change = step("change_encoding", path=p["path"], **names)
    before, made = ({p["path"]: p["text"].encode(names[which])} for which in ("old", "new"))
    return plan_of(before, made, ((change,),))


def _draw_encode_folder(draw: Draw) -> Parameters:
    folder = draw.folder()
    return {
        **trouble(draw),
        "folder": folder,
        "paths": paths(draw, 3, ".txt", folder),
        "texts": [_korean_note(draw) for _ in range(3)],
    }


def _plan_encode_folder(task: Task) -> FilesPlan:
    p: Any = task.parameters
    texts = dict(zip(p["paths"], p["texts"], strict=True))
    old = p["paths"][:2]
    before = {path: text.encode("cp949" if path in old else "utf-8") for path, text in texts.items()}
    steps = (
        (step("list_folder", path=p["folder"]),),
        tuple(step("file_info", path=path) for path in p["paths"]),
        tuple(step("change_encoding", path=path, old="cp949", new="utf-8") for path in old),
    )
    return plan_of(before, {path: texts[path] for path in old}, steps)


def _draw_reprice(draw: Draw) -> Parameters:
    items: list[JsonValue] = [draw.item() for _ in range(3)]
    prices: list[JsonValue] = [draw.number(100, 999) for _ in items]
    which = draw.random.randrange(3)
    return {
        **trouble(draw),
        "source": f"{draw.folder()}/{draw.word()}.toml",
        "target": f"{draw.folder()}/{draw.word()}.json",
        "items": items,
        "prices": prices,
        "item": items[which],
        "price": prices[which],
        "new": draw.number(100, 999),
    }


def _plan_reprice(task: Task) -> FilesPlan:
    p: Any = task.parameters
    prices = [p["new"] if price == p["price"] else price for price in p["prices"]]
    source, target = (table(suffix, item=p["items"], price=prices) for suffix in ("toml", "json"))
    steps = (
        (read(p["source"]),),
        (step("edit_file", path=p["source"], old=str(p["price"]), new=str(p["new"])),),
        (step("convert_file", source=p["source"], target=p["target"]),),
    )
    before = table("toml", item=p["items"], price=p["prices"])
    return plan_of({p["source"]: before}, {p["source"]: source, p["target"]: target}, steps)


def _draw_encode_convert(draw: Draw) -> Parameters:
    return {
        **trouble(draw),
        "source": f"{draw.folder()}/{draw.word()}.csv",
        "target": f"{draw.folder()}/{draw.word()}.xml",
        "names": [draw.korean() for _ in range(3)],
        "numbers": [draw.number(100, 999) for _ in range(3)],
    }


def _plan_encode_convert(task: Task) -> FilesPlan:
    p: Any = task.parameters
    source, target = (table(suffix, name=p["names"], number=p["numbers"]) for suffix in ("csv", "xml"))
    steps = (
        (step("change_encoding", path=p["source"], old="cp949", new="utf-8"),),
        (step("convert_file", source=p["source"], target=p["target"]),),
    )
    return plan_of({p["source"]: source.encode("cp949")}, {p["source"]: source, p["target"]: target}, steps)


CONVERT_FORMAT = FilesFamily(
    name="convert-format",
    tier=1,
    tools=("read_file", "convert_file", "change_encoding", *REPAIRS),
    draw=_draw_format,
    english=(
        'Make "{target}" out of the table in "{source}".',
        'The table in "{source}" is also needed as "{target}". Convert it.',
    ),
    korean='"{source}"의 표를 "{target}"(으)로 변환하세요.',
    facts=("source", "target"),
    faults=writing("convert_file", "not_found"),
    plan=plan_convert,
)


ENCODE = FilesFamily(
    name="encode",
    tier=1,
    tools=("file_info", "change_encoding", "convert_file", *REPAIRS),
    draw=_draw_encode,
    english=(
        'The text in "{path}" is in {old}. Change that to {new}.',
        'Change the encoding of "{path}" from {old} to {new}.',
    ),
    korean='"{path}"의 인코딩을 {old}에서 {new}(으)로 바꾸세요.',
    facts=("path",),
    faults=writing("change_encoding", "not_found"),
    phrases=_encodings,
    plan=_plan_encode,
)


REPRICE = FilesFamily(
    name="reprice",
    tier=3,
    tools=("read_file", "edit_file", "convert_file", "write_file", *REPAIRS),
    draw=_draw_reprice,
    english=(
        'In "{source}" change the price of "{item}" to "{new}", then convert the file to "{target}".',
        'The "{item}" in "{source}" costs "{new}" now. Correct that and make "{target}" out of it.',
    ),
    korean='"{source}"에서 "{item}"의 가격을 "{new}"(으)로 고친 다음 "{target}"(으)로 변환하세요.',
    facts=("price", "new", "target"),
    faults=(
        *faults("read_file", "malformed", "unmounted"),
        *faults("edit_file", "stale", "busy", "disk_full"),
        *faults("convert_file", "timed_out", "locked"),
    ),
    plan=_plan_reprice,
)


ENCODE_FOLDER = FilesFamily(
    name="encode-folder",
    tier=6,
    tools=("list_folder", "file_info", "change_encoding", "read_file", *REPAIRS),
    draw=_draw_encode_folder,
    english=(
        'Some of the files in "{folder}" are in cp949. Find out which and change these to utf-8.',
        'All files in "{folder}" shall be in utf-8; change those that are in cp949.',
    ),
    korean='"{folder}"의 일부 파일은 cp949입니다. 어느 것인지 알아내 utf-8로 바꾸세요.',
    facts=("folder",),
    faults=(*looking("list_folder"), *reading("file_info"), *writing("change_encoding", "not_found")),
    plan=_plan_encode_folder,
)


ENCODE_CONVERT = FilesFamily(
    name="encode-convert",
    tier=2,
    held_out=True,
    tools=("change_encoding", "convert_file", "read_file", "file_info", *REPAIRS),
    draw=_draw_encode_convert,
    english=('Change "{source}" from cp949 to utf-8, then convert it to "{target}".',),
    korean='"{source}"의 인코딩을 cp949에서 utf-8로 바꾼 다음 "{target}"(으)로 변환하세요.',
    facts=("source", "target"),
    faults=(*writing("change_encoding", "not_found"), *writing("convert_file")),
    plan=_plan_encode_convert,
)
