"""Facts that stand long before their use."""

from __future__ import annotations

from typing import Any

from benchmark.worlds.family import CONTEXT_TOKENS
from benchmark.worlds.files.families.family import (
    REPAIRS,
    FilesFamily,
    FilesPlan,
    Parameters,
    faults,
    plan_of,
    read,
    reading,
    step,
    trouble,
    write,
    writing,
)
from benchmark.worlds.pools import Draw, filler
from benchmark.worlds.world import Task


def _draw_recall(draw: Draw) -> Parameters:
    return {
        **trouble(draw),
        "source": f"{draw.folder()}/{draw.word()}.txt",
        "rules": f"{draw.folder()}/{draw.word()}.txt",
        "target": f"{draw.folder()}/{draw.word()}.txt",
        "other": f"{draw.folder()}/{draw.word()}.txt",
        "person": draw.person(),
        "code": f"{draw.word()}-{draw.number(100, 999)}",
    }


def _plan_recall(task: Task) -> FilesPlan:
    p: Any = task.parameters
    rules = f"{filler(task.id, task.split, task.context_tokens)}\nCodes are kept in {p['target']}\n"
    before = {p["source"]: p["code"], p["rules"]: rules, p["other"]: "keep"}
    steps = ((read(p["source"]),), (read(p["rules"]),), (write(p["target"], p["code"]),))
    return plan_of(before, {p["target"]: p["code"]}, steps)


def _plan_told(task: Task) -> FilesPlan:
    p: Any = task.parameters
    return plan_of({p["other"]: "keep"}, {p["target"]: p["code"]}, ((write(p["target"], p["code"]),),))


def _draw_rules(draw: Draw) -> Parameters:
    return {
        **trouble(draw),
        "rules": f"{draw.folder()}/{draw.word()}.txt",
        "path": f"{draw.folder()}/{draw.word()}.sh",
        "other": f"{draw.folder()}/{draw.word()}.sh",
        "mode": draw.mode(),
        "code": f"{draw.word()}-{draw.number(100, 999)}",
        "target": f"{draw.folder()}/{draw.word()}.txt",
    }


def _plan_rules(task: Task) -> FilesPlan:
    p: Any = task.parameters
    first = f"Scripts get the permissions {p['mode']}. The code is {p['code']}"
    before = {
        p["rules"]: f"{first}\n{filler(task.id, task.split, task.context_tokens)}\n",
        p["path"]: "echo\n",
        p["other"]: "echo\n",
    }
    set_mode = step("set_permissions", path=p["path"], mode=p["mode"])
    steps = ((read(p["rules"]),), (set_mode, write(p["target"], p["code"])))
    return plan_of(before, {p["target"]: p["code"]}, steps, modes={p["path"]: p["mode"]})


TOLD = FilesFamily(
    name="told",
    tier=1,
    tools=("list_folder", "write_file", "search_text", *REPAIRS),
    draw=_draw_recall,
    english=(
        'The code of {person} is "{code}". Here is a list of stores:\n{filler}\n'
        'Write the code of {person} into "{target}".',
    ),
    korean='{person}의 코드는 "{code}"입니다. 상점 목록:\n{filler}\n{person}의 코드를 "{target}"에 쓰세요.',
    facts=("code", "target"),
    faults=writing("write_file"),
    context_tokens=CONTEXT_TOKENS,
    plan=_plan_told,
)


RECALL = FilesFamily(
    name="recall",
    tier=3,
    tools=("search_text", "read_file", "write_file", "edit_file", *REPAIRS),
    draw=_draw_recall,
    english=(
        'The code of {person} is in "{source}". The last line of "{rules}" says where codes are kept. '
        "Read both, the code first, and write it there.",
    ),
    korean='"{source}"에 {person}의 코드가 있습니다. 코드를 두는 곳은 "{rules}"의 마지막 줄에 있습니다. '
    "코드를 먼저 읽고, 그다음 규칙을 읽은 뒤 그곳에 코드를 쓰세요.",
    facts=("code", "target"),
    faults=(
        *reading("read_file"),
        *faults("read_file", "not_found", "timed_out", nth=1),
        *writing("write_file"),
    ),
    context_tokens=CONTEXT_TOKENS,
    plan=_plan_recall,
)


RULES = FilesFamily(
    name="rules",
    tier=3,
    held_out=True,
    tools=("read_file", "set_permissions", "write_file", "file_info", *REPAIRS),
    draw=_draw_rules,
    english=(
        'The first line of "{rules}" names the permissions of scripts and a code. Give "{path}" those permissions, '
        'no other file, and write the code into "{target}".',
    ),
    korean='"{rules}"의 첫 줄에 스크립트의 권한과 코드가 있습니다. "{path}"에만 그 권한을 주고 코드를 "{target}"에 쓰세요.',
    facts=("mode", "code"),
    faults=(*reading("read_file"), *faults("set_permissions", "busy", "locked"), *writing("write_file")),
    context_tokens=CONTEXT_TOKENS,
    plan=_plan_rules,
)
