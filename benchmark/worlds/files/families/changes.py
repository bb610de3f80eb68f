"""Files that are searched, changed, renamed, moved in numbers, and their permissions."""

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
    read,
    reading,
    step,
    table,
    trouble,
    write,
    writing,
)
from benchmark.worlds.pools import Draw
from benchmark.worlds.world import Task


def _draw_correct(draw: Draw) -> Parameters:
    folder, person = draw.folder(), draw.person()
    number = draw.number(1000, 9999)
    return {
        **trouble(draw),
        "person": person,
        "source": f"{folder}/{draw.word()}.txt",
        "number": number,
        "text": f"{person} {number} {draw.word()}\n",
        "other": f"{folder}/{draw.word()}.txt",
        "other_text": f"{draw.bystander()} {draw.number(1000, 9999)} {draw.word()}\n",
        "new": draw.number(1000, 9999),
    }


def _plan_correct(task: Task) -> FilesPlan:
    p: Any = task.parameters
    old, new = str(p["number"]), str(p["new"])
    steps = (
        (step("search_text", text=p["person"]),),
        (read(p["source"]),),
        (step("edit_file", path=p["source"], old=old, new=new),),
    )
    before = {p["source"]: p["text"], p["other"]: p["other_text"]}
    return plan_of(before, {p["source"]: p["text"].replace(old, new)}, steps)


def _draw_compare(draw: Draw) -> Parameters:
    items: list[JsonValue] = [draw.item(), draw.item()]
    prices = [draw.number(100, 999), draw.number(100, 999)]
    cheaper = min(range(2), key=lambda place: prices[place])
    return {
        **trouble(draw),
        "sources": paths(draw, 2, ".txt"),
        "items": items,
        "prices": list(prices),
        "item": items[cheaper],
        "target": f"{draw.folder()}/{draw.word()}.txt",
    }


def _plan_compare(task: Task) -> FilesPlan:
    p: Any = task.parameters
    rows = zip(p["sources"], p["items"], p["prices"], strict=True)
    before: dict[str, Content] = {path: f"{item} costs {price}" for path, item, price in rows}
    return plan_of(before, {p["target"]: p["item"]}, (tuple(map(read, before)), (write(p["target"], p["item"]),)))


def _draw_collect(draw: Draw) -> Parameters:
    return {
        **trouble(draw),
        "paths": paths(draw, 4, ".txt"),
        "codes": [f"{draw.word()}-{draw.number(100, 999)}" for _ in range(4)],
        "target": f"{draw.folder()}/{draw.word()}.txt",
    }


def _plan_collect(task: Task) -> FilesPlan:
    p: Any = task.parameters
    text = "\n".join(p["codes"])
    before: dict[str, Content] = dict(zip(p["paths"], p["codes"], strict=True))
    return plan_of(before, {p["target"]: text}, (tuple(map(read, before)), (write(p["target"], text),)))


def _draw_rename(draw: Draw) -> Parameters:
    return {
        **trouble(draw),
        "folder": draw.folder(),
        "old": draw.word(),
        "new": draw.word(),
        "stems": [draw.word() for _ in range(4)],
        "texts": [note(draw) for _ in range(4)],
        "others": [f"{draw.word()}.txt", f"{draw.word()}.csv"],
    }


def _plan_rename(task: Task) -> FilesPlan:
    p: Any = task.parameters
    texts = dict(zip(p["stems"], p["texts"], strict=True))
    old, new = ({stem: f"{p['folder']}/{p[word]}-{stem}.txt" for stem in texts} for word in ("old", "new"))
    before = {old[stem]: text for stem, text in texts.items()} | {
        f"{p['folder']}/{name}": "keep" for name in p["others"]
    }
    moves = tuple(step("move_file", source=old[stem], target=new[stem]) for stem in texts)
    made: dict[str, Content] = {new[stem]: text for stem, text in texts.items()}
    return plan_of(dict(before), made, ((step("list_folder", path=p["folder"]),), moves), frozenset(old.values()))


def _draw_permit(draw: Draw) -> Parameters:
    folder = draw.folder()
    return {
        **trouble(draw),
        "stem": (stem := draw.word()),
        "paths": [f"{folder}/{stem}-{draw.word()}.sh" for _ in range(3)],
        "others": [f"{folder}/{draw.word()}.sh", f"{folder}/{draw.word()}.txt"],
        "mode": draw.mode(),
    }


def _plan_permit(task: Task) -> FilesPlan:
    p: Any = task.parameters
    before: dict[str, Content] = {path: f"echo {path}\n" for path in (*p["paths"], *p["others"])}
    steps = (
        (step("find_files", pattern=f"{p['stem']}-*.sh"),),
        tuple(step("set_permissions", path=path, mode=p["mode"]) for path in p["paths"]),
    )
    return plan_of(before, {}, steps, modes=dict.fromkeys(p["paths"], p["mode"]))


def _draw_migrate(draw: Draw) -> Parameters:
    return {
        **trouble(draw),
        "folder": draw.folder(),
        "target": draw.folder(),
        "attic": draw.folder(),
        "stems": [draw.word() for _ in range(5)],
        "items": [draw.item() for _ in range(5)],
        "prices": [draw.number(100, 999) for _ in range(5)],
        "note": f"{draw.word()}.txt",
    }


def _plan_migrate(task: Task) -> FilesPlan:
    p: Any = task.parameters
    rows = list(zip(p["stems"], p["items"], p["prices"], strict=True))
    before: dict[str, Content] = {}
    made: dict[str, Content] = {p["note"]: str(len(rows))}
    for stem, item, price in rows:
        before[f"{p['folder']}/{stem}.csv"] = made[f"{p['attic']}/{stem}.csv"] = table(
            "csv", item=[item], price=[price]
        )
        made[f"{p['target']}/{stem}.json"] = table("json", item=[item], price=[price])

    def each(command: str, folder: str, suffix: str) -> tuple[Step, ...]:
        return tuple(step(command, source=path, target=f"{folder}/{stem}.{suffix}") for path, stem in
                     zip(before, p["stems"], strict=True))  # fmt: skip

    steps = (
        (step("list_folder", path=p["folder"]),),
        each("convert_file", p["target"], "json"),
        each("move_file", p["attic"], "csv"),
        (write(p["note"], str(len(rows))),),
    )
    return plan_of(before, made, steps, frozenset(before))


COMPARE = FilesFamily(
    name="compare",
    tier=3,
    tools=("read_file", "search_text", "write_file", *REPAIRS),
    draw=_draw_compare,
    english=(
        'Offers are in "{sources[0]}" and "{sources[1]}". Write the name of the cheaper item into "{target}".',
        'Which item costs less, that in "{sources[1]}" or that in "{sources[0]}"? Write its name into "{target}".',
    ),
    korean='"{sources[0]}"와(과) "{sources[1]}"의 제안 중 더 싼 물건의 이름을 "{target}"에 쓰세요.',
    facts=("item", "target"),
    faults=(
        *reading("read_file"),
        *faults("read_file", "not_found", "malformed", nth=1),
        *writing("write_file"),
    ),
    plan=_plan_compare,
)


CORRECT = FilesFamily(
    name="correct",
    tier=3,
    tools=("search_text", "read_file", "edit_file", "write_file", *REPAIRS),
    draw=_draw_correct,
    english=(
        'One file names "{person}" with a number. Change that number to "{new}", and nothing else.',
        'The number of "{person}" is "{new}" now. Correct the file in which it stands.',
    ),
    korean='한 파일에 "{person}"의 번호가 있습니다. 그 번호만 "{new}"(으)로 고치세요.',
    facts=("source", "number", "new"),
    faults=(
        *faults("search_text", "malformed", "timed_out"),
        *faults("read_file", "busy", "not_found"),
        *faults("edit_file", "stale", "not_found", "permission_denied", "locked"),
    ),
    plan=_plan_correct,
)


PERMIT = FilesFamily(
    name="permit",
    tier=4,
    tools=("list_folder", "find_files", "set_permissions", "file_info", *REPAIRS),
    draw=_draw_permit,
    english=(
        'Give the files whose names begin with "{stem}-" and end with .sh the permissions "{mode}". '
        "All others stay as they are.",
        'Find the files "{stem}-*.sh", wherever they are, and set their permissions to "{mode}", no others.',
    ),
    korean='이름이 "{stem}-"로 시작하고 .sh로 끝나는 파일의 권한만 "{mode}"(으)로 바꾸세요.',
    facts=("mode",),
    faults=(
        *looking("find_files"),
        *faults("set_permissions", "busy", "timed_out", "not_found", "locked", "unmounted"),
    ),
    plan=_plan_permit,
)


COLLECT = FilesFamily(
    name="collect",
    tier=5,
    tools=("search_text", "read_file", "write_file", "list_folder", *REPAIRS),
    draw=_draw_collect,
    english=(
        'Write the codes in "{paths[0]}", "{paths[1]}", "{paths[2]}" and "{paths[3]}" into "{target}", '
        "one a line and in this order.",
    ),
    korean='"{paths[0]}", "{paths[1]}", "{paths[2]}", "{paths[3]}"의 코드를 이 순서대로 한 줄에 하나씩 '
    '"{target}"에 쓰세요.',
    facts=("target",),
    faults=(*reading("read_file"), *reading("read_file", nth=2), *writing("write_file")),
    plan=_plan_collect,
)


RENAME = FilesFamily(
    name="rename",
    tier=5,
    tools=("find_files", "list_folder", "move_file", "add_to_zip", *REPAIRS),
    draw=_draw_rename,
    english=(
        'Rename the files in "{folder}" whose names begin with "{old}-": they shall begin with "{new}-" instead.',
        'In "{folder}", put "{new}-" in the place of "{old}-" at the beginning of every name that has it.',
    ),
    korean='"{folder}"에서 "{old}-"로 시작하는 파일 이름을 모두 "{new}-"로 시작하게 바꾸세요.',
    facts=("folder",),
    faults=(
        *looking("list_folder"),
        *faults("move_file", "busy", "timed_out", "permission_denied", "not_found", "locked", "unmounted"),
        *faults("move_file", "permission_denied", "locked", nth=2),
    ),
    plan=_plan_rename,
)


MIGRATE = FilesFamily(
    name="migrate",
    tier=12,
    tools=("list_folder", "convert_file", "move_file", "write_file", "find_files", "add_to_zip", *REPAIRS),
    draw=_draw_migrate,
    english=(
        'Convert every .csv file in "{folder}" to a .json file of the same name in "{target}", then move the .csv files '
        'to "{attic}". In the end write how many there were into "{note}".',
    ),
    korean='"{folder}"의 모든 .csv 파일을 "{target}" 폴더에 같은 이름의 .json 파일로 변환한 다음, .csv 파일을 '
    '"{attic}"(으)로 옮기세요. 끝으로 몇 개였는지 "{note}"에 쓰세요.',
    facts=("folder", "note"),
    faults=(
        *looking("list_folder"),
        *faults("convert_file", "busy", "permission_denied", "disk_full", "locked", nth=1),
        *faults("move_file", "timed_out", "not_found", "unmounted", nth=2),
        *faults("write_file", "disk_full", "busy"),
    ),
    plan=_plan_migrate,
)
