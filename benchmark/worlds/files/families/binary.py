"""Numbers in the headers of binary files."""

from __future__ import annotations

from itertools import permutations
from typing import Any

from pydantic import JsonValue

from benchmark.worlds.expert import Step
from benchmark.worlds.files.families.family import (
    REPAIRS,
    Content,
    FilesFamily,
    FilesPlan,
    Language,
    Parameters,
    faults,
    looking,
    paths,
    pick,
    plan_of,
    reading,
    step,
    suffix,
    trouble,
    write,
    writing,
)
from benchmark.worlds.files.file_formats import FIELDS, MAGIC, header
from benchmark.worlds.pools import Draw
from benchmark.worlds.world import Task


def _draw_header(draw: Draw) -> Parameters:
    kind = draw.random.choice(tuple(FIELDS))
    return {
        **trouble(draw),
        "source": f"{draw.folder()}/{draw.word()}.{kind}",
        "target": f"{draw.folder()}/{draw.word()}.txt",
        "number": draw.number(1000, 60000),
        "second": draw.number(1000, 60000),
    }


def _field_words(p: Any, language: Language, *, name: str | None = None) -> dict[str, str]:
    """Where the number in question stands in a header; `name` is a field of it, else the file decides."""
    fields = FIELDS[suffix(p["source"])]
    name = name or pick(tuple(fields), p["source"])
    offset, size, order = fields[name]
    what = {"width": ("width", "너비"), "height": ("height", "높이"), "rate": ("sample rate", "표본화 주파수")}
    korean = language == "ko"
    return {"what": what[name][korean], "offset": str(offset), "size": str(size), "order": order, "field": name}


def _header_of(p: Any, field_name: str) -> bytes:
    """A header in which `number` stands in a field."""
    numbers = (p["second"], p["number"]) if field_name == "height" else (p["number"], p["second"])
    return header(suffix(p["source"]), *numbers)


def _read_field(path: str, name: str) -> Step:
    offset, size, order = FIELDS[suffix(path)][name]
    return step("read_number", path=path, offset=offset, size=size, order=order)


def _plan_header(task: Task) -> FilesPlan:
    p: Any = task.parameters
    name = _field_words(p, "en")["field"]
    number = str(p["number"])
    steps = ((_read_field(p["source"], name),), (write(p["target"], number),))
    return plan_of({p["source"]: _header_of(p, name)}, {p["target"]: number}, steps)


def _draw_picture(draw: Draw) -> Parameters:
    kind = draw.random.choice(tuple(MAGIC))
    folder = draw.folder()
    return {
        **trouble(draw),
        "source": f"{folder}/{draw.word()}.{kind}",
        "path": f"{folder}/{draw.word()}.{kind}",
        "target": f"{draw.folder()}/{draw.word()}.txt",
        "width": draw.number(1000, 60000),
        "height": draw.number(1000, 60000),
        "other": draw.number(1000, 60000),
    }


def _picture_words(p: Any, language: Language) -> dict[str, str]:
    """Where the width and the height stand in a picture."""
    width, height = (_field_words(p, language, name=name) for name in ("width", "height"))
    return {**width, "offset_2": height["offset"], "kind": suffix(p["source"])}


def _plan_picture_size(task: Task) -> FilesPlan:
    p: Any = task.parameters
    text = f"{p['width']} {p['height']}"
    looks = tuple(_read_field(p["source"], name) for name in ("width", "height"))
    before: dict[str, Content] = {p["source"]: header(suffix(p["source"]), p["width"], p["height"])}
    return plan_of(before, {p["target"]: text}, (looks, (write(p["target"], text),)))


def _plan_patch(task: Task) -> FilesPlan:
    p: Any = task.parameters
    kind = suffix(p["source"])
    offset, size, order = FIELDS[kind]["width"]
    write = step("write_number", path=p["path"], offset=offset, size=size, order=order, value=p["width"])
    source, old = header(kind, p["width"], p["height"]), header(kind, p["other"], p["height"])
    number = p["width"].to_bytes(size, order)
    made = old[:offset] + number + old[offset + size :]
    before: dict[str, Content] = {p["source"]: source, p["path"]: old}
    return plan_of(before, {p["path"]: made}, ((_read_field(p["source"], "width"),), (write,)))


def _draw_identify(draw: Draw) -> Parameters:
    folder = draw.folder()
    sizes: list[JsonValue] = [draw.number(1000, 60000) for _ in MAGIC]
    return {**trouble(draw), "folder": folder, "paths": paths(draw, 3, "", folder), "sizes": sizes}


def _magic_words(p: Any, language: Language) -> dict[str, str]:
    return MAGIC


def _plan_identify(task: Task) -> FilesPlan:
    p: Any = task.parameters
    kinds = pick(tuple(permutations(MAGIC)), *p["paths"])
    before = {path: header(kind, size, size) for path, kind, size in zip(p["paths"], kinds, p["sizes"], strict=True)}
    named = {path: f"{path}.{kind}" for path, kind in zip(p["paths"], kinds, strict=True)}
    steps = (
        (step("list_folder", path=p["folder"]),),
        tuple(step("read_bytes", path=path, offset=0, count=4) for path in p["paths"]),
        tuple(step("move_file", source=path, target=target) for path, target in named.items()),
    )
    return plan_of(dict(before), {named[path]: content for path, content in before.items()}, steps, frozenset(before))


HEADER = FilesFamily(
    name="header",
    tier=2,
    tools=("read_bytes", "read_number", "write_file", "file_info", *REPAIRS),
    draw=_draw_header,
    english=(
        'In the header of "{source}" the {what} is a number of {size} bytes at offset {offset}, order {order}. '
        'Write it into "{target}".',
    ),
    korean='"{source}" 헤더의 오프셋 {offset}부터 {size}바이트({order})가 {what}입니다. 그 수를 "{target}"에 쓰세요.',
    facts=("number", "target"),
    faults=(*reading("read_number"), *writing("write_file")),
    phrases=_field_words,
    plan=_plan_header,
)


IDENTIFY = FilesFamily(
    name="identify",
    tier=7,
    tools=("list_folder", "read_bytes", "move_file", "file_info", *REPAIRS),
    draw=_draw_identify,
    english=(
        'The files in "{folder}" are pictures and have lost their suffixes. A .png begins with {png}, a .gif with {gif}, '
        "a .bmp with {bmp}. Look at their first bytes and add the suffixes.",
    ),
    korean='"{folder}"의 파일은 확장자를 잃은 그림입니다. .png는 {png}, .gif는 {gif}, .bmp는 {bmp}(으)로 시작합니다. '
    "첫 바이트를 보고 이름에 확장자를 붙이세요.",
    facts=("folder",),
    faults=(
        *looking("list_folder"),
        *reading("read_bytes"),
        *faults("move_file", "busy", "timed_out", "permission_denied", "locked", "unmounted", nth=1),
    ),
    phrases=_magic_words,
    plan=_plan_identify,
)


PATCH = FilesFamily(
    name="patch",
    tier=2,
    held_out=True,
    tools=("read_bytes", "read_number", "write_number", "file_info", *REPAIRS),
    draw=_draw_picture,
    english=(
        "The width of a .{kind} is a number of {size} bytes at offset {offset}, order {order}. "
        'Give "{path}" the width that "{source}" has.',
    ),
    korean=".{kind} 파일의 너비는 오프셋 {offset}부터 {size}바이트({order})입니다. "
    '"{path}"의 너비를 "{source}"의 너비로 바꾸세요.',
    facts=("width", "path"),
    faults=(*reading("read_number"), *writing("write_number", "not_found")),
    phrases=_picture_words,
    plan=_plan_patch,
)


PICTURE_SIZE = FilesFamily(
    name="picture-size",
    tier=3,
    held_out=True,
    tools=("read_bytes", "read_number", "write_file", "file_info", *REPAIRS),
    draw=_draw_picture,
    english=(
        "A .{kind} has its width at offset {offset}, its height at offset {offset_2}, each of {size} bytes, order {order}. "
        'Write those of "{source}" into "{target}", with a space between.',
    ),
    korean=".{kind} 파일은 오프셋 {offset}에 너비, 오프셋 {offset_2}에 높이가 각 {size}바이트({order})로 있습니다. "
    '"{source}"의 너비와 높이를 빈칸으로 나누어 "{target}"에 쓰세요.',
    facts=("source", "target"),
    faults=(
        *reading("read_number"),
        *faults("read_number", "locked", "not_found", nth=1),
        *writing("write_file"),
    ),
    phrases=_picture_words,
    plan=_plan_picture_size,
)
