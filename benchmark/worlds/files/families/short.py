"""Short tasks: up to three calls, few tools, short outputs."""

from __future__ import annotations

from typing import Any

from pydantic import JsonValue

from benchmark.worlds.files.families.family import (
    FilesFamily,
    FilesPlan,
    Parameters,
    faults,
    note,
    plan_of,
    read,
    step,
    suffix,
    table,
    write,
)
from benchmark.worlds.pools import Draw
from benchmark.worlds.world import Task


def _draw_write(draw: Draw) -> Parameters:
    folder = draw.folder()
    parameters: Parameters = {
        "path": f"{folder}/{draw.word()}.txt",
        "text": note(draw),
        "other": f"{folder}/{draw.word()}.txt",
    }
    # Half of the files are there already and say something else.
    return {**parameters, "old": note(draw)} if draw.random.random() < 0.5 else parameters


def _plan_write(task: Task) -> FilesPlan:
    p: Any = task.parameters
    before = {p["other"]: "keep"}
    if "old" in p:
        before[p["path"]] = p["old"]
    return plan_of(before, {p["path"]: p["text"]}, ((write(p["path"], p["text"]),),))


def _draw_move(draw: Draw) -> Parameters:
    folder, stem = draw.folder(), draw.word()
    # Half of them move to another folder under the same name, half are renamed in place.
    target = f"{draw.folder()}/{stem}.txt" if draw.random.random() < 0.5 else f"{folder}/{draw.word()}.txt"
    return {
        "source": f"{folder}/{stem}.txt",
        "target": target,
        "text": note(draw),
        "other": f"{folder}/{draw.word()}.txt",
        "elsewhere": draw.folder(),
    }


def _plan_move(task: Task) -> FilesPlan:
    p: Any = task.parameters
    move = step("move_file", source=p["source"], target=p["target"])
    before = {p["source"]: p["text"], p["other"]: "keep"}
    return plan_of(before, {p["target"]: p["text"]}, ((move,),), frozenset({p["source"]}))


def _draw_convert(draw: Draw) -> Parameters:
    source, target = draw.random.choice([("csv", "json"), ("json", "csv")])
    folder = draw.folder()
    return {
        "source": f"{folder}/{draw.word()}.{source}",
        "target": f"{folder}/{draw.word()}.{target}",
        "items": [draw.item(), draw.item()],
        "prices": [draw.number(10, 99), draw.number(10, 99)],
        "elsewhere": draw.folder(),
    }


def plan_convert(task: Task) -> FilesPlan:
    p: Any = task.parameters
    source, target = (table(suffix(p[name]), item=p["items"], price=p["prices"]) for name in ("source", "target"))
    convert = step("convert_file", source=p["source"], target=p["target"])
    return plan_of({p["source"]: source}, {p["target"]: target}, ((convert,),))


def _draw_copy(draw: Draw) -> Parameters:
    return {
        "source": f"{draw.folder()}/{draw.word()}.txt",
        "target": f"{draw.folder()}/{draw.word()}.txt",
        "text": note(draw),
        "elsewhere": draw.folder(),
    }


def _plan_copy(task: Task) -> FilesPlan:
    p: Any = task.parameters
    steps = ((read(p["source"]),), (write(p["target"], p["text"]),))
    return plan_of({p["source"]: p["text"]}, {p["target"]: p["text"]}, steps)


def _draw_found(draw: Draw) -> Parameters:
    folder, person = draw.folder(), draw.person()
    return {
        "person": person,
        "source": f"{folder}/{draw.word()}.txt",
        "text": f"{person} {draw.number(10, 99)} {draw.word()}",
        "other": f"{folder}/{draw.word()}.txt",
        "other_text": f"{draw.bystander()} {draw.number(10, 99)} {draw.word()}",
        "target": f"{draw.folder()}/{draw.word()}.txt",
    }


def _plan_find_move(task: Task) -> FilesPlan:
    p: Any = task.parameters
    search = step("search_text", text=p["person"])
    move = step("move_file", source=p["source"], target=p["target"])
    before = {p["source"]: p["text"], p["other"]: p["other_text"]}
    return plan_of(before, {p["target"]: p["text"]}, ((search,), (move,)), frozenset({p["source"]}))


def _plan_find_copy(task: Task) -> FilesPlan:
    p: Any = task.parameters
    steps = ((step("search_text", text=p["person"]),), (read(p["source"]),), (write(p["target"], p["text"]),))
    return plan_of({p["source"]: p["text"], p["other"]: p["other_text"]}, {p["target"]: p["text"]}, steps)


def _draw_count(draw: Draw) -> Parameters:
    names: list[JsonValue] = [f"{draw.word()}.txt" for _ in range(draw.random.randint(2, 4))]
    return {"folder": draw.folder(), "names": names, "target": f"{draw.folder()}/{draw.word()}.txt"}


def _plan_count(task: Task) -> FilesPlan:
    p: Any = task.parameters
    count = str(len(p["names"]))
    steps = ((step("list_folder", path=p["folder"]),), (write(p["target"], count),))
    return plan_of({f"{p['folder']}/{name}": "keep" for name in p["names"]}, {p["target"]: count}, steps)


def _draw_price(draw: Draw) -> Parameters:
    items: list[JsonValue] = [draw.item(), draw.item()]
    prices: list[JsonValue] = [draw.number(10, 99), draw.number(10, 99)]
    which = draw.random.randrange(2)
    # Three files are named in every step, so they have no folders: names are what makes this prompt long.
    return {
        "source": f"{draw.word()}.csv",
        "target": f"{draw.word()}.json",
        "items": items,
        "prices": prices,
        "item": items[which],
        "price": prices[which],
        "note": f"{draw.word()}.txt",
    }


def _plan_price(task: Task) -> FilesPlan:
    p: Any = task.parameters
    source, target = (table(suffix, item=p["items"], price=p["prices"]) for suffix in ("csv", "json"))
    convert = step("convert_file", source=p["source"], target=p["target"])
    steps = ((convert,), (read(p["source"]),), (write(p["note"], str(p["price"])),))
    return plan_of({p["source"]: source}, {p["target"]: target, p["note"]: str(p["price"])}, steps)


WRITE = FilesFamily(
    name="write",
    tier=1,
    is_short=True,
    tools=("write_file", "read_file", "make_writable"),
    draw=_draw_write,
    english=('Write "{text}" into "{path}".', 'The file "{path}" shall say "{text}". Write it.'),
    korean='"{path}"에 "{text}"라고 쓰세요.',
    facts=("path", "text"),
    faults=faults("write_file", "permission_denied", "busy"),
    plan=_plan_write,
)


MOVE = FilesFamily(
    name="move",
    tier=1,
    is_short=True,
    tools=("move_file", "list_folder", "make_writable"),
    draw=_draw_move,
    english=('Move "{source}" to "{target}".', 'The file "{source}" belongs at "{target}". Move it there.'),
    korean='"{source}" 파일을 "{target}"로 옮기세요.',
    facts=("target",),
    faults=faults("move_file", "not_found", "permission_denied"),
    plan=_plan_move,
)


CONVERT = FilesFamily(
    name="convert",
    tier=1,
    is_short=True,
    tools=("convert_file", "read_file", "make_writable"),
    draw=_draw_convert,
    english=('Convert "{source}" to "{target}".', 'Make "{target}" out of "{source}".'),
    korean='"{source}"를 "{target}"(으)로 변환하세요.',
    facts=("target",),
    faults=faults("convert_file", "not_found", "permission_denied", "busy"),
    plan=plan_convert,
)


COPY = FilesFamily(
    name="copy",
    tier=2,
    is_short=True,
    tools=("read_file", "write_file", "list_folder"),
    draw=_draw_copy,
    english=('Copy the text of "{source}" into "{target}".', 'Write what "{source}" says into "{target}".'),
    korean='"{source}"의 내용을 "{target}"에 쓰세요.',
    facts=("target", "text"),
    faults=(*faults("read_file", "not_found", "malformed"), *faults("write_file", "busy")),
    plan=_plan_copy,
)


FIND_MOVE = FilesFamily(
    name="find-move",
    tier=2,
    is_short=True,
    tools=("search_text", "move_file", "list_folder"),
    draw=_draw_found,
    english=(
        'One file contains "{person}". Move it to "{target}".',
        'Find the file with "{person}" in it and move it to "{target}".',
    ),
    korean='"{person}"이(가) 들어 있는 파일을 "{target}"로 옮기세요.',
    facts=("source", "target"),
    faults=(*faults("search_text", "malformed"), *faults("move_file", "busy")),
    plan=_plan_find_move,
)


COUNT = FilesFamily(
    name="count",
    tier=2,
    is_short=True,
    tools=("list_folder", "write_file", "search_text"),
    draw=_draw_count,
    english=(
        'Count the files in "{folder}" and write the number into "{target}".',
        'How many files are in "{folder}"? Write the number into "{target}".',
    ),
    korean='"{folder}"의 파일 수를 "{target}"에 쓰세요.',
    facts=("target",),
    faults=(*faults("list_folder", "malformed"), *faults("write_file", "busy")),
    plan=_plan_count,
)


FIND_COPY = FilesFamily(
    name="find-copy",
    tier=3,
    is_short=True,
    tools=("search_text", "read_file", "write_file"),
    draw=_draw_found,
    english=(
        'One file contains "{person}". Copy its text into "{target}".',
        'Find the file with "{person}" in it and write its text into "{target}".',
    ),
    korean='"{person}"이(가) 들어 있는 파일의 내용을 "{target}"에 쓰세요.',
    facts=("source", "text", "target"),
    faults=(*faults("search_text", "malformed", "timed_out"), *faults("write_file", "busy")),
    plan=_plan_find_copy,
)


CONVERT_PRICE = FilesFamily(
    name="convert-price",
    tier=3,
    is_short=True,
    tools=("convert_file", "read_file", "write_file"),
    draw=_draw_price,
    english=(
        'Convert "{source}" to "{target}", then write the price of "{item}" into "{note}".',
        'Make "{target}" out of "{source}" and write the price of "{item}" into "{note}".',
    ),
    korean='"{source}"를 "{target}"(으)로 변환한 다음 "{item}"의 가격을 "{note}"에 쓰세요.',
    facts=("price", "note"),
    faults=(*faults("convert_file", "busy", "timed_out"), *faults("read_file", "malformed")),
    plan=_plan_price,
)
