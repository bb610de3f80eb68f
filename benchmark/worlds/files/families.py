"""The families of tasks of the files world: what stands in the folder, what must stand there at the end, and the way.

A way is groups of calls; those of a group may be made side by side. The world's expert makes the calls that are not done yet
and repairs what went wrong (`FilesWorld.expert`), so a family has no code for that.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any, Literal

from pydantic import JsonValue

from benchmark.worlds.family import CONTEXT_TOKENS, Family
from benchmark.worlds.files.file_formats import FIELDS, MAGIC, convert_text, header, write_zip
from benchmark.worlds.pools import Draw, filler
from benchmark.worlds.world import Fault, Move, Task

Content = str | bytes
"""Of a file; text stands for its bytes in UTF-8."""
Steps = tuple[tuple[Move, ...], ...]
Parameters = dict[str, JsonValue]
Language = Literal["en", "ko"]


@dataclass(frozen=True)
class Plan:
    """The files at the start, those that must be new or changed at the end, and the way there."""

    before: Mapping[str, Content]
    made: Mapping[str, Content]
    steps: Steps
    gone: frozenset[str] = frozenset()
    """Files that must have been moved away."""
    modes: dict[str, str] = field(default_factory=dict)
    """File -> permissions in octal that it must have at the end."""


def _no_plan(task: Task) -> Plan:
    raise NotImplementedError(task.family)


@dataclass(frozen=True)
class FilesFamily(Family):
    """A family with its files and the way to the end."""

    plan: Callable[[Task], Plan] = _no_plan


def _call(command: str, **given: Any) -> Move:
    return Move(command, given)


def _write(path: str, text: str) -> Move:
    return _call("write_file", path=path, text=text)


def _read(path: str) -> Move:
    return _call("read_file", path=path)


def _pick(options: tuple[Any, ...], *values: str) -> Any:
    """One of the options, told by values of the task: what is the same in both splits must be no parameter."""
    return options[zlib.crc32(" ".join(values).encode("utf-8")) % len(options)]


def _trouble(draw: Draw) -> Parameters:
    """What faults need: where files move to, what fills the disk, how long a file is locked."""
    return {"elsewhere": draw.folder(), "junk": draw.word(), "wait_s": draw.number(20, 300)}


def _note(draw: Draw) -> str:
    return f"{draw.person()} {draw.number(10, 99)} {draw.word()}"


def _paths(draw: Draw, count: int, suffix: str, folder: str | None = None) -> list[JsonValue]:
    folder = folder or draw.folder()
    return [f"{folder}/{draw.word()}{suffix}" for _ in range(count)]


# The short families: up to three calls, few tools, short outputs.


def _draw_write(draw: Draw) -> Parameters:
    folder = draw.folder()
    parameters: Parameters = {
        "path": f"{folder}/{draw.word()}.txt",
        "text": _note(draw),
        "other": f"{folder}/{draw.word()}.txt",
    }
    # Half of the files are there already and say something else.
    return {**parameters, "old": _note(draw)} if draw.random.random() < 0.5 else parameters


def _plan_write(task: Task) -> Plan:
    p: Any = task.parameters
    before = {p["other"]: "keep"}
    if "old" in p:
        before[p["path"]] = p["old"]
    return Plan(before, {p["path"]: p["text"]}, ((_write(p["path"], p["text"]),),))


def _draw_move(draw: Draw) -> Parameters:
    folder, stem = draw.folder(), draw.word()
    # Half of them move to another folder under the same name, half are renamed in place.
    target = f"{draw.folder()}/{stem}.txt" if draw.random.random() < 0.5 else f"{folder}/{draw.word()}.txt"
    return {
        "source": f"{folder}/{stem}.txt",
        "target": target,
        "text": _note(draw),
        "other": f"{folder}/{draw.word()}.txt",
        "elsewhere": draw.folder(),
    }


def _plan_move(task: Task) -> Plan:
    p: Any = task.parameters
    move = _call("move_file", source=p["source"], target=p["target"])
    before = {p["source"]: p["text"], p["other"]: "keep"}
    return Plan(before, {p["target"]: p["text"]}, ((move,),), frozenset({p["source"]}))


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


def _table(suffix: str, **columns: Any) -> str:
    """A table in the format of a suffix."""
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    text = "\n".join(lines) + "\n"
    return text if suffix == "csv" else convert_text(text, ".csv", f".{suffix}")


def _suffix(path: str) -> str:
    return path.rsplit(".", 1)[-1]


def _plan_convert(task: Task) -> Plan:
    p: Any = task.parameters
    source, target = (_table(_suffix(p[name]), item=p["items"], price=p["prices"]) for name in ("source", "target"))
    convert = _call("convert_file", source=p["source"], target=p["target"])
    return Plan({p["source"]: source}, {p["target"]: target}, ((convert,),))


def _draw_copy(draw: Draw) -> Parameters:
    return {
        "source": f"{draw.folder()}/{draw.word()}.txt",
        "target": f"{draw.folder()}/{draw.word()}.txt",
        "text": _note(draw),
        "elsewhere": draw.folder(),
    }


def _plan_copy(task: Task) -> Plan:
    p: Any = task.parameters
    steps = ((_read(p["source"]),), (_write(p["target"], p["text"]),))
    return Plan({p["source"]: p["text"]}, {p["target"]: p["text"]}, steps)


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


def _plan_find_move(task: Task) -> Plan:
    p: Any = task.parameters
    search = _call("search_text", text=p["person"])
    move = _call("move_file", source=p["source"], target=p["target"])
    before = {p["source"]: p["text"], p["other"]: p["other_text"]}
    return Plan(before, {p["target"]: p["text"]}, ((search,), (move,)), frozenset({p["source"]}))


def _plan_find_copy(task: Task) -> Plan:
    p: Any = task.parameters
    steps = ((_call("search_text", text=p["person"]),), (_read(p["source"]),), (_write(p["target"], p["text"]),))
    return Plan({p["source"]: p["text"], p["other"]: p["other_text"]}, {p["target"]: p["text"]}, steps)


def _draw_count(draw: Draw) -> Parameters:
    names: list[JsonValue] = [f"{draw.word()}.txt" for _ in range(draw.random.randint(2, 4))]
    return {"folder": draw.folder(), "names": names, "target": f"{draw.folder()}/{draw.word()}.txt"}


def _plan_count(task: Task) -> Plan:
    p: Any = task.parameters
    count = str(len(p["names"]))
    steps = ((_call("list_folder", path=p["folder"]),), (_write(p["target"], count),))
    return Plan({f"{p['folder']}/{name}": "keep" for name in p["names"]}, {p["target"]: count}, steps)


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


def _plan_price(task: Task) -> Plan:
    p: Any = task.parameters
    source, target = (_table(suffix, item=p["items"], price=p["prices"]) for suffix in ("csv", "json"))
    convert = _call("convert_file", source=p["source"], target=p["target"])
    steps = ((convert,), (_read(p["source"]),), (_write(p["note"], str(p["price"])),))
    return Plan({p["source"]: source}, {p["target"]: target, p["note"]: str(p["price"])}, steps)


# Formats and encodings.


def _draw_format(draw: Draw) -> Parameters:
    pairs = [pair for pair in permutations(("csv", "json", "toml", "xml"), 2) if set(pair) != {"csv", "json"}]
    source, target = draw.random.choice(pairs)
    return {
        **_trouble(draw),
        "source": f"{draw.folder()}/{draw.word()}.{source}",
        "target": f"{draw.folder()}/{draw.word()}.{target}",
        "items": [draw.item() for _ in range(3)],
        "prices": [draw.number(100, 999) for _ in range(3)],
    }


def _draw_encode(draw: Draw) -> Parameters:
    return {**_trouble(draw), "path": f"{draw.folder()}/{draw.word()}.txt", "text": _korean_note(draw)}


def _korean_note(draw: Draw) -> str:
    return f"{draw.korean()} {draw.number(10, 99)} {draw.korean()}"


def _encodings(p: Any, language: Language) -> dict[str, str]:
    pairs = (("cp949", "utf-8"), ("cp949", "utf-8"), ("utf-8", "cp949"), ("utf-16", "utf-8"))
    return dict(zip(("old", "new"), _pick(pairs, p["path"]), strict=True))


def _plan_encode(task: Task) -> Plan:
    p: Any = task.parameters
    names = _encodings(p, task.language)
    change = _call("change_encoding", path=p["path"], **names)
    before, made = ({p["path"]: p["text"].encode(names[which])} for which in ("old", "new"))
    return Plan(before, made, ((change,),))


def _draw_encode_folder(draw: Draw) -> Parameters:
    folder = draw.folder()
    return {
        **_trouble(draw),
        "folder": folder,
        "paths": _paths(draw, 3, ".txt", folder),
        "texts": [_korean_note(draw) for _ in range(3)],
    }


def _plan_encode_folder(task: Task) -> Plan:
    p: Any = task.parameters
    texts = dict(zip(p["paths"], p["texts"], strict=True))
    old = p["paths"][:2]
    before = {path: text.encode("cp949" if path in old else "utf-8") for path, text in texts.items()}
    steps = (
        (_call("list_folder", path=p["folder"]),),
        tuple(_call("file_info", path=path) for path in p["paths"]),
        tuple(_call("change_encoding", path=path, old="cp949", new="utf-8") for path in old),
    )
    return Plan(before, {path: texts[path] for path in old}, steps)


def _draw_reprice(draw: Draw) -> Parameters:
    items: list[JsonValue] = [draw.item() for _ in range(3)]
    prices: list[JsonValue] = [draw.number(100, 999) for _ in items]
    which = draw.random.randrange(3)
    return {
        **_trouble(draw),
        "source": f"{draw.folder()}/{draw.word()}.toml",
        "target": f"{draw.folder()}/{draw.word()}.json",
        "items": items,
        "prices": prices,
        "item": items[which],
        "price": prices[which],
        "new": draw.number(100, 999),
    }


def _plan_reprice(task: Task) -> Plan:
    p: Any = task.parameters
    prices = [p["new"] if price == p["price"] else price for price in p["prices"]]
    source, target = (_table(suffix, item=p["items"], price=prices) for suffix in ("toml", "json"))
    steps = (
        (_read(p["source"]),),
        (_call("edit_file", path=p["source"], old=str(p["price"]), new=str(p["new"])),),
        (_call("convert_file", source=p["source"], target=p["target"]),),
    )
    before = _table("toml", item=p["items"], price=p["prices"])
    return Plan({p["source"]: before}, {p["source"]: source, p["target"]: target}, steps)


def _draw_encode_convert(draw: Draw) -> Parameters:
    return {
        **_trouble(draw),
        "source": f"{draw.folder()}/{draw.word()}.csv",
        "target": f"{draw.folder()}/{draw.word()}.xml",
        "names": [draw.korean() for _ in range(3)],
        "numbers": [draw.number(100, 999) for _ in range(3)],
    }


def _plan_encode_convert(task: Task) -> Plan:
    p: Any = task.parameters
    source, target = (_table(suffix, name=p["names"], number=p["numbers"]) for suffix in ("csv", "xml"))
    steps = (
        (_call("change_encoding", path=p["source"], old="cp949", new="utf-8"),),
        (_call("convert_file", source=p["source"], target=p["target"]),),
    )
    return Plan({p["source"]: source.encode("cp949")}, {p["source"]: source, p["target"]: target}, steps)


# Binary files.


def _draw_header(draw: Draw) -> Parameters:
    kind = draw.random.choice(tuple(FIELDS))
    return {
        **_trouble(draw),
        "source": f"{draw.folder()}/{draw.word()}.{kind}",
        "target": f"{draw.folder()}/{draw.word()}.txt",
        "number": draw.number(1000, 60000),
        "second": draw.number(1000, 60000),
    }


def _field_words(p: Any, language: Language, *, name: str | None = None) -> dict[str, str]:
    """Where the number in question stands in a header; `name` is a field of it, else the file decides."""
    fields = FIELDS[_suffix(p["source"])]
    name = name or _pick(tuple(fields), p["source"])
    offset, size, order = fields[name]
    what = {"width": ("width", "너비"), "height": ("height", "높이"), "rate": ("sample rate", "표본화 주파수")}
    korean = language == "ko"
    return {"what": what[name][korean], "offset": str(offset), "size": str(size), "order": order, "field": name}


def _header_of(p: Any, field_name: str) -> bytes:
    """A header in which `number` stands in a field."""
    numbers = (p["second"], p["number"]) if field_name == "height" else (p["number"], p["second"])
    return header(_suffix(p["source"]), *numbers)


def _read_field(path: str, name: str) -> Move:
    offset, size, order = FIELDS[_suffix(path)][name]
    return _call("read_number", path=path, offset=offset, size=size, order=order)


def _plan_header(task: Task) -> Plan:
    p: Any = task.parameters
    name = _field_words(p, "en")["field"]
    number = str(p["number"])
    steps = ((_read_field(p["source"], name),), (_write(p["target"], number),))
    return Plan({p["source"]: _header_of(p, name)}, {p["target"]: number}, steps)


def _draw_picture(draw: Draw) -> Parameters:
    kind = draw.random.choice(tuple(MAGIC))
    folder = draw.folder()
    return {
        **_trouble(draw),
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
    return {**width, "offset_2": height["offset"], "kind": _suffix(p["source"])}


def _plan_picture_size(task: Task) -> Plan:
    p: Any = task.parameters
    text = f"{p['width']} {p['height']}"
    looks = tuple(_read_field(p["source"], name) for name in ("width", "height"))
    before: dict[str, Content] = {p["source"]: header(_suffix(p["source"]), p["width"], p["height"])}
    return Plan(before, {p["target"]: text}, (looks, (_write(p["target"], text),)))


def _plan_patch(task: Task) -> Plan:
    p: Any = task.parameters
    kind = _suffix(p["source"])
    offset, size, order = FIELDS[kind]["width"]
    write = _call("write_number", path=p["path"], offset=offset, size=size, order=order, value=p["width"])
    source, old = header(kind, p["width"], p["height"]), header(kind, p["other"], p["height"])
    number = p["width"].to_bytes(size, order)
    made = old[:offset] + number + old[offset + size :]
    before: dict[str, Content] = {p["source"]: source, p["path"]: old}
    return Plan(before, {p["path"]: made}, ((_read_field(p["source"], "width"),), (write,)))


def _draw_identify(draw: Draw) -> Parameters:
    folder = draw.folder()
    sizes: list[JsonValue] = [draw.number(1000, 60000) for _ in MAGIC]
    return {**_trouble(draw), "folder": folder, "paths": _paths(draw, 3, "", folder), "sizes": sizes}


def _magic_words(p: Any, language: Language) -> dict[str, str]:
    return MAGIC


def _plan_identify(task: Task) -> Plan:
    p: Any = task.parameters
    kinds = _pick(tuple(permutations(MAGIC)), *p["paths"])
    before = {path: header(kind, size, size) for path, kind, size in zip(p["paths"], kinds, p["sizes"], strict=True)}
    named = {path: f"{path}.{kind}" for path, kind in zip(p["paths"], kinds, strict=True)}
    steps = (
        (_call("list_folder", path=p["folder"]),),
        tuple(_call("read_bytes", path=path, offset=0, count=4) for path in p["paths"]),
        tuple(_call("move_file", source=path, target=target) for path, target in named.items()),
    )
    return Plan(dict(before), {named[path]: content for path, content in before.items()}, steps, frozenset(before))


# Archives.


def _draw_unzip(draw: Draw) -> Parameters:
    names: list[JsonValue] = [f"{draw.word()}{suffix}" for suffix in (".txt", ".csv", ".json")]
    draw.random.shuffle(names)
    return {
        **_trouble(draw),
        "archive": f"{draw.folder()}/{draw.word()}.zip",
        "names": names,
        "name": next(name for name in names if str(name).endswith(".csv")),
        "texts": [_note(draw) for _ in names],
        "target": f"{draw.folder()}/{draw.word()}.csv",
    }


def _plan_unzip(task: Task) -> Plan:
    p: Any = task.parameters
    members = dict(zip(p["names"], p["texts"], strict=True))
    steps = (
        (_call("list_zip", path=p["archive"]),),
        (_call("extract_file", archive=p["archive"], name=p["name"], target=p["target"]),),
    )
    archive = write_zip({name: text.encode("utf-8") for name, text in members.items()})
    return Plan({p["archive"]: archive}, {p["target"]: members[p["name"]]}, steps)


def _draw_unpack(draw: Draw) -> Parameters:
    names: list[JsonValue] = [f"{draw.word()}.txt" for _ in range(3)]
    texts: list[JsonValue] = [_note(draw) for _ in names]
    return {
        **_trouble(draw),
        "archive": f"{draw.folder()}/{draw.word()}.zip",
        "folder": draw.folder(),
        "names": names,
        "texts": texts,
    }


def _plan_unpack(task: Task) -> Plan:
    p: Any = task.parameters
    members = dict(zip(p["names"], p["texts"], strict=True))
    unzip = _call("unzip_file", archive=p["archive"], folder=p["folder"])
    archive = write_zip({name: text.encode("utf-8") for name, text in members.items()})
    return Plan({p["archive"]: archive}, {f"{p['folder']}/{name}": text for name, text in members.items()}, ((unzip,),))


def _draw_pack(draw: Draw) -> Parameters:
    folder = draw.folder()
    return {
        **_trouble(draw),
        "paths": _paths(draw, 3, ".txt", folder),
        "texts": [_note(draw) for _ in range(3)],
        "other": f"{folder}/{draw.word()}.txt",
        "archive": f"{draw.folder()}/{draw.word()}.zip",
    }


def _pack(p: Any) -> tuple[dict[str, Content], bytes, tuple[Move, ...]]:
    """The files, the archive of them, and the calls that make it."""
    files: dict[str, Content] = dict(zip(p["paths"], p["texts"], strict=True))
    archive = write_zip({path.rsplit("/")[-1]: str(text).encode("utf-8") for path, text in files.items()})
    return files, archive, tuple(_call("add_to_zip", path=path, archive=p["archive"]) for path in files)


def _plan_pack(task: Task) -> Plan:
    p: Any = task.parameters
    files, archive, calls = _pack(p)
    return Plan({**files, p["other"]: "keep"}, {p["archive"]: archive}, (calls,))


def _draw_find_pack(draw: Draw) -> Parameters:
    stem = draw.word()
    return {
        **_draw_pack(draw),
        "stem": stem,
        "paths": [f"{draw.folder()}/{stem}-{draw.word()}.txt" for _ in range(3)],
    }


def _plan_find_pack(task: Task) -> Plan:
    p: Any = task.parameters
    plan = _plan_pack(task)
    find = _call("find_files", pattern=f"{p['stem']}-*")
    return Plan(plan.before, plan.made, ((find,), *plan.steps))


def _draw_repack(draw: Draw) -> Parameters:
    folder = draw.folder()
    stem = draw.word()
    return {
        **_trouble(draw),
        "archive": f"{draw.folder()}/{draw.word()}.zip",
        "name": f"{stem}.csv",
        "note": f"{draw.word()}.txt",
        "text": _note(draw),
        "source": f"{folder}/{stem}.csv",
        "target": f"{folder}/{draw.word()}.json",
        "other": f"{draw.folder()}/{draw.word()}.zip",
        "items": [draw.item(), draw.item()],
        "prices": [draw.number(100, 999), draw.number(100, 999)],
    }


def _plan_repack(task: Task) -> Plan:
    p: Any = task.parameters
    as_csv, as_json = (_table(suffix, item=p["items"], price=p["prices"]) for suffix in ("csv", "json"))
    before = write_zip({p["note"]: p["text"].encode("utf-8"), p["name"]: as_csv.encode("utf-8")})
    after = write_zip({p["target"].rsplit("/")[-1]: as_json.encode("utf-8")})
    steps = (
        (_call("list_zip", path=p["archive"]),),
        (_call("extract_file", archive=p["archive"], name=p["name"], target=p["source"]),),
        (_call("convert_file", source=p["source"], target=p["target"]),),
        (_call("add_to_zip", path=p["target"], archive=p["other"]),),
    )
    return Plan({p["archive"]: before}, {p["source"]: as_csv, p["target"]: as_json, p["other"]: after}, steps)


# Searching, changing, renaming, permissions.


def _draw_correct(draw: Draw) -> Parameters:
    folder, person = draw.folder(), draw.person()
    number = draw.number(1000, 9999)
    return {
        **_trouble(draw),
        "person": person,
        "source": f"{folder}/{draw.word()}.txt",
        "number": number,
        "text": f"{person} {number} {draw.word()}\n",
        "other": f"{folder}/{draw.word()}.txt",
        "other_text": f"{draw.bystander()} {draw.number(1000, 9999)} {draw.word()}\n",
        "new": draw.number(1000, 9999),
    }


def _plan_correct(task: Task) -> Plan:
    p: Any = task.parameters
    old, new = str(p["number"]), str(p["new"])
    steps = (
        (_call("search_text", text=p["person"]),),
        (_read(p["source"]),),
        (_call("edit_file", path=p["source"], old=old, new=new),),
    )
    before = {p["source"]: p["text"], p["other"]: p["other_text"]}
    return Plan(before, {p["source"]: p["text"].replace(old, new)}, steps)


def _draw_compare(draw: Draw) -> Parameters:
    items: list[JsonValue] = [draw.item(), draw.item()]
    prices = [draw.number(100, 999), draw.number(100, 999)]
    cheaper = min(range(2), key=lambda place: prices[place])
    return {
        **_trouble(draw),
        "sources": _paths(draw, 2, ".txt"),
        "items": items,
        "prices": list(prices),
        "item": items[cheaper],
        "target": f"{draw.folder()}/{draw.word()}.txt",
    }


def _plan_compare(task: Task) -> Plan:
    p: Any = task.parameters
    rows = zip(p["sources"], p["items"], p["prices"], strict=True)
    before: dict[str, Content] = {path: f"{item} costs {price}" for path, item, price in rows}
    return Plan(before, {p["target"]: p["item"]}, (tuple(map(_read, before)), (_write(p["target"], p["item"]),)))


def _draw_collect(draw: Draw) -> Parameters:
    return {
        **_trouble(draw),
        "paths": _paths(draw, 4, ".txt"),
        "codes": [f"{draw.word()}-{draw.number(100, 999)}" for _ in range(4)],
        "target": f"{draw.folder()}/{draw.word()}.txt",
    }


def _plan_collect(task: Task) -> Plan:
    p: Any = task.parameters
    text = "\n".join(p["codes"])
    before: dict[str, Content] = dict(zip(p["paths"], p["codes"], strict=True))
    return Plan(before, {p["target"]: text}, (tuple(map(_read, before)), (_write(p["target"], text),)))


def _draw_rename(draw: Draw) -> Parameters:
    return {
        **_trouble(draw),
        "folder": draw.folder(),
        "old": draw.word(),
        "new": draw.word(),
        "stems": [draw.word() for _ in range(4)],
        "texts": [_note(draw) for _ in range(4)],
        "others": [f"{draw.word()}.txt", f"{draw.word()}.csv"],
    }


def _plan_rename(task: Task) -> Plan:
    p: Any = task.parameters
    texts = dict(zip(p["stems"], p["texts"], strict=True))
    old, new = ({stem: f"{p['folder']}/{p[word]}-{stem}.txt" for stem in texts} for word in ("old", "new"))
    before = {old[stem]: text for stem, text in texts.items()} | {
        f"{p['folder']}/{name}": "keep" for name in p["others"]
    }
    moves = tuple(_call("move_file", source=old[stem], target=new[stem]) for stem in texts)
    made: dict[str, Content] = {new[stem]: text for stem, text in texts.items()}
    return Plan(dict(before), made, ((_call("list_folder", path=p["folder"]),), moves), frozenset(old.values()))


def _draw_permit(draw: Draw) -> Parameters:
    folder = draw.folder()
    return {
        **_trouble(draw),
        "stem": (stem := draw.word()),
        "paths": [f"{folder}/{stem}-{draw.word()}.sh" for _ in range(3)],
        "others": [f"{folder}/{draw.word()}.sh", f"{folder}/{draw.word()}.txt"],
        "mode": draw.mode(),
    }


def _plan_permit(task: Task) -> Plan:
    p: Any = task.parameters
    before: dict[str, Content] = {path: f"echo {path}\n" for path in (*p["paths"], *p["others"])}
    steps = (
        (_call("find_files", pattern=f"{p['stem']}-*.sh"),),
        tuple(_call("set_permissions", path=path, mode=p["mode"]) for path in p["paths"]),
    )
    return Plan(before, {}, steps, modes=dict.fromkeys(p["paths"], p["mode"]))


def _draw_migrate(draw: Draw) -> Parameters:
    return {
        **_trouble(draw),
        "folder": draw.folder(),
        "target": draw.folder(),
        "attic": draw.folder(),
        "stems": [draw.word() for _ in range(5)],
        "items": [draw.item() for _ in range(5)],
        "prices": [draw.number(100, 999) for _ in range(5)],
        "note": f"{draw.word()}.txt",
    }


def _plan_migrate(task: Task) -> Plan:
    p: Any = task.parameters
    rows = list(zip(p["stems"], p["items"], p["prices"], strict=True))
    before: dict[str, Content] = {}
    made: dict[str, Content] = {p["note"]: str(len(rows))}
    for stem, item, price in rows:
        before[f"{p['folder']}/{stem}.csv"] = made[f"{p['attic']}/{stem}.csv"] = _table(
            "csv", item=[item], price=[price]
        )
        made[f"{p['target']}/{stem}.json"] = _table("json", item=[item], price=[price])

    def each(command: str, folder: str, suffix: str) -> tuple[Move, ...]:
        return tuple(_call(command, source=path, target=f"{folder}/{stem}.{suffix}") for path, stem in
                     zip(before, p["stems"], strict=True))  # fmt: skip

    steps = (
        (_call("list_folder", path=p["folder"]),),
        each("convert_file", p["target"], "json"),
        each("move_file", p["attic"], "csv"),
        (_write(p["note"], str(len(rows))),),
    )
    return Plan(before, made, steps, frozenset(before))


# Facts that stand long before their use.


def _draw_recall(draw: Draw) -> Parameters:
    return {
        **_trouble(draw),
        "source": f"{draw.folder()}/{draw.word()}.txt",
        "rules": f"{draw.folder()}/{draw.word()}.txt",
        "target": f"{draw.folder()}/{draw.word()}.txt",
        "other": f"{draw.folder()}/{draw.word()}.txt",
        "person": draw.person(),
        "code": f"{draw.word()}-{draw.number(100, 999)}",
    }


def _plan_recall(task: Task) -> Plan:
    p: Any = task.parameters
    rules = f"{filler(task.id, task.split, task.context_tokens)}\nCodes are kept in {p['target']}\n"
    before = {p["source"]: p["code"], p["rules"]: rules, p["other"]: "keep"}
    steps = ((_read(p["source"]),), (_read(p["rules"]),), (_write(p["target"], p["code"]),))
    return Plan(before, {p["target"]: p["code"]}, steps)


def _plan_told(task: Task) -> Plan:
    p: Any = task.parameters
    return Plan({p["other"]: "keep"}, {p["target"]: p["code"]}, ((_write(p["target"], p["code"]),),))


def _draw_rules(draw: Draw) -> Parameters:
    return {
        **_trouble(draw),
        "rules": f"{draw.folder()}/{draw.word()}.txt",
        "path": f"{draw.folder()}/{draw.word()}.sh",
        "other": f"{draw.folder()}/{draw.word()}.sh",
        "mode": draw.mode(),
        "code": f"{draw.word()}-{draw.number(100, 999)}",
        "target": f"{draw.folder()}/{draw.word()}.txt",
    }


def _plan_rules(task: Task) -> Plan:
    p: Any = task.parameters
    first = f"Scripts get the permissions {p['mode']}. The code is {p['code']}"
    before = {
        p["rules"]: f"{first}\n{filler(task.id, task.split, task.context_tokens)}\n",
        p["path"]: "echo\n",
        p["other"]: "echo\n",
    }
    set_mode = _call("set_permissions", path=p["path"], mode=p["mode"])
    steps = ((_read(p["rules"]),), (set_mode, _write(p["target"], p["code"])))
    return Plan(before, {p["target"]: p["code"]}, steps, modes={p["path"]: p["mode"]})


# What may strike.


def _faults(tool: str, *kinds: str, nth: int = 0) -> tuple[Fault, ...]:
    return tuple(Fault(kind, tool, nth) for kind in kinds)


def _reading(tool: str, nth: int = 0) -> tuple[Fault, ...]:
    """Of tools that read one file."""
    return _faults(tool, "busy", "timed_out", "malformed", "not_found", "locked", "unmounted", nth=nth)


def _looking(tool: str) -> tuple[Fault, ...]:
    """Of tools that look through folders."""
    return _faults(tool, "busy", "timed_out", "malformed")


def _writing(tool: str, *more: str, nth: int = 0) -> tuple[Fault, ...]:
    """Of tools that write a file."""
    kinds = ("busy", "timed_out", "permission_denied", "disk_full", "locked", "unmounted")
    return _faults(tool, *kinds, *more, nth=nth)


_REPAIRS = ("make_writable", "delete_file", "wait", "mount_folder")
"""What faults need beside a family's own tools."""

FAMILIES: tuple[FilesFamily, ...] = (
    FilesFamily(
        name="write",
        tier=1,
        is_short=True,
        tools=("write_file", "read_file", "make_writable"),
        draw=_draw_write,
        english=('Write "{text}" into "{path}".', 'The file "{path}" shall say "{text}". Write it.'),
        korean='"{path}"에 "{text}"라고 쓰세요.',
        facts=("path", "text"),
        faults=_faults("write_file", "permission_denied", "busy"),
        plan=_plan_write,
    ),
    FilesFamily(
        name="move",
        tier=1,
        is_short=True,
        tools=("move_file", "list_folder", "make_writable"),
        draw=_draw_move,
        english=('Move "{source}" to "{target}".', 'The file "{source}" belongs at "{target}". Move it there.'),
        korean='"{source}" 파일을 "{target}"로 옮기세요.',
        facts=("target",),
        faults=_faults("move_file", "not_found", "permission_denied"),
        plan=_plan_move,
    ),
    FilesFamily(
        name="convert",
        tier=1,
        is_short=True,
        tools=("convert_file", "read_file", "make_writable"),
        draw=_draw_convert,
        english=('Convert "{source}" to "{target}".', 'Make "{target}" out of "{source}".'),
        korean='"{source}"를 "{target}"(으)로 변환하세요.',
        facts=("target",),
        faults=_faults("convert_file", "not_found", "permission_denied", "busy"),
        plan=_plan_convert,
    ),
    FilesFamily(
        name="copy",
        tier=2,
        is_short=True,
        tools=("read_file", "write_file", "list_folder"),
        draw=_draw_copy,
        english=('Copy the text of "{source}" into "{target}".', 'Write what "{source}" says into "{target}".'),
        korean='"{source}"의 내용을 "{target}"에 쓰세요.',
        facts=("target", "text"),
        faults=(*_faults("read_file", "not_found", "malformed"), *_faults("write_file", "busy")),
        plan=_plan_copy,
    ),
    FilesFamily(
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
        faults=(*_faults("search_text", "malformed"), *_faults("move_file", "busy")),
        plan=_plan_find_move,
    ),
    FilesFamily(
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
        faults=(*_faults("list_folder", "malformed"), *_faults("write_file", "busy")),
        plan=_plan_count,
    ),
    FilesFamily(
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
        faults=(*_faults("search_text", "malformed", "timed_out"), *_faults("write_file", "busy")),
        plan=_plan_find_copy,
    ),
    FilesFamily(
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
        faults=(*_faults("convert_file", "busy", "timed_out"), *_faults("read_file", "malformed")),
        plan=_plan_price,
    ),
    FilesFamily(
        name="convert-format",
        tier=1,
        tools=("read_file", "convert_file", "change_encoding", *_REPAIRS),
        draw=_draw_format,
        english=(
            'Make "{target}" out of the table in "{source}".',
            'The table in "{source}" is also needed as "{target}". Convert it.',
        ),
        korean='"{source}"의 표를 "{target}"(으)로 변환하세요.',
        facts=("source", "target"),
        faults=_writing("convert_file", "not_found"),
        plan=_plan_convert,
    ),
    FilesFamily(
        name="encode",
        tier=1,
        tools=("file_info", "change_encoding", "convert_file", *_REPAIRS),
        draw=_draw_encode,
        english=(
            'The text in "{path}" is in {old}. Change that to {new}.',
            'Change the encoding of "{path}" from {old} to {new}.',
        ),
        korean='"{path}"의 인코딩을 {old}에서 {new}(으)로 바꾸세요.',
        facts=("path",),
        faults=_writing("change_encoding", "not_found"),
        phrases=_encodings,
        plan=_plan_encode,
    ),
    FilesFamily(
        name="unpack",
        tier=1,
        tools=("list_zip", "unzip_file", "extract_file", *_REPAIRS),
        draw=_draw_unpack,
        english=('Unpack all of "{archive}" into the folder "{folder}".', 'Unzip "{archive}" into "{folder}".'),
        korean='"{archive}"의 압축을 "{folder}" 폴더에 모두 푸세요.',
        facts=("archive", "folder"),
        faults=_writing("unzip_file", "not_found"),
        plan=_plan_unpack,
    ),
    FilesFamily(
        name="told",
        tier=1,
        tools=("list_folder", "write_file", "search_text", *_REPAIRS),
        draw=_draw_recall,
        english=(
            'The code of {person} is "{code}". Here is a list of stores:\n{filler}\n'
            'Write the code of {person} into "{target}".',
        ),
        korean='{person}의 코드는 "{code}"입니다. 상점 목록:\n{filler}\n{person}의 코드를 "{target}"에 쓰세요.',
        facts=("code", "target"),
        faults=_writing("write_file"),
        context_tokens=CONTEXT_TOKENS,
        plan=_plan_told,
    ),
    FilesFamily(
        name="header",
        tier=2,
        tools=("read_bytes", "read_number", "write_file", "file_info", *_REPAIRS),
        draw=_draw_header,
        english=(
            'In the header of "{source}" the {what} is a number of {size} bytes at offset {offset}, order {order}. '
            'Write it into "{target}".',
        ),
        korean='"{source}" 헤더의 오프셋 {offset}부터 {size}바이트({order})가 {what}입니다. 그 수를 "{target}"에 쓰세요.',
        facts=("number", "target"),
        faults=(*_reading("read_number"), *_writing("write_file")),
        phrases=_field_words,
        plan=_plan_header,
    ),
    FilesFamily(
        name="unzip",
        tier=2,
        tools=("list_zip", "unzip_file", "extract_file", *_REPAIRS),
        draw=_draw_unzip,
        english=(
            'The archive "{archive}" holds one .csv file. Extract only that, to "{target}".',
            'Copy the only .csv file in "{archive}" to "{target}".',
        ),
        korean='"{archive}" 안의 하나뿐인 .csv 파일만 "{target}"(으)로 꺼내세요.',
        facts=("name", "target"),
        faults=(*_reading("list_zip"), *_writing("extract_file")),
        plan=_plan_unzip,
    ),
    FilesFamily(
        name="compare",
        tier=3,
        tools=("read_file", "search_text", "write_file", *_REPAIRS),
        draw=_draw_compare,
        english=(
            'Offers are in "{sources[0]}" and "{sources[1]}". Write the name of the cheaper item into "{target}".',
            'Which item costs less, that in "{sources[1]}" or that in "{sources[0]}"? Write its name into "{target}".',
        ),
        korean='"{sources[0]}"와(과) "{sources[1]}"의 제안 중 더 싼 물건의 이름을 "{target}"에 쓰세요.',
        facts=("item", "target"),
        faults=(
            *_reading("read_file"),
            *_faults("read_file", "not_found", "malformed", nth=1),
            *_writing("write_file"),
        ),
        plan=_plan_compare,
    ),
    FilesFamily(
        name="pack",
        tier=3,
        tools=("list_folder", "add_to_zip", "move_file", *_REPAIRS),
        draw=_draw_pack,
        english=(
            'Pack "{paths[0]}", "{paths[1]}" and "{paths[2]}" into "{archive}".',
            'Make the archive "{archive}" of "{paths[2]}", "{paths[0]}" and "{paths[1]}", and of nothing else.',
        ),
        korean='"{paths[0]}", "{paths[1]}", "{paths[2]}"을(를) "{archive}"(으)로 압축하세요.',
        facts=("archive",),
        faults=(*_writing("add_to_zip"), *_faults("add_to_zip", "not_found", "permission_denied", nth=1)),
        plan=_plan_pack,
    ),
    FilesFamily(
        name="correct",
        tier=3,
        tools=("search_text", "read_file", "edit_file", "write_file", *_REPAIRS),
        draw=_draw_correct,
        english=(
            'One file names "{person}" with a number. Change that number to "{new}", and nothing else.',
            'The number of "{person}" is "{new}" now. Correct the file in which it stands.',
        ),
        korean='한 파일에 "{person}"의 번호가 있습니다. 그 번호만 "{new}"(으)로 고치세요.',
        facts=("source", "number", "new"),
        faults=(
            *_faults("search_text", "malformed", "timed_out"),
            *_faults("read_file", "busy", "not_found"),
            *_faults("edit_file", "stale", "not_found", "permission_denied", "locked"),
        ),
        plan=_plan_correct,
    ),
    FilesFamily(
        name="reprice",
        tier=3,
        tools=("read_file", "edit_file", "convert_file", "write_file", *_REPAIRS),
        draw=_draw_reprice,
        english=(
            'In "{source}" change the price of "{item}" to "{new}", then convert the file to "{target}".',
            'The "{item}" in "{source}" costs "{new}" now. Correct that and make "{target}" out of it.',
        ),
        korean='"{source}"에서 "{item}"의 가격을 "{new}"(으)로 고친 다음 "{target}"(으)로 변환하세요.',
        facts=("price", "new", "target"),
        faults=(
            *_faults("read_file", "malformed", "unmounted"),
            *_faults("edit_file", "stale", "busy", "disk_full"),
            *_faults("convert_file", "timed_out", "locked"),
        ),
        plan=_plan_reprice,
    ),
    FilesFamily(
        name="recall",
        tier=3,
        tools=("search_text", "read_file", "write_file", "edit_file", *_REPAIRS),
        draw=_draw_recall,
        english=(
            'The code of {person} is in "{source}". The last line of "{rules}" says where codes are kept. '
            "Read both, the code first, and write it there.",
        ),
        korean='"{source}"에 {person}의 코드가 있습니다. 코드를 두는 곳은 "{rules}"의 마지막 줄에 있습니다. '
        "코드를 먼저 읽고, 그다음 규칙을 읽은 뒤 그곳에 코드를 쓰세요.",
        facts=("code", "target"),
        faults=(
            *_reading("read_file"),
            *_faults("read_file", "not_found", "timed_out", nth=1),
            *_writing("write_file"),
        ),
        context_tokens=CONTEXT_TOKENS,
        plan=_plan_recall,
    ),
    FilesFamily(
        name="permit",
        tier=4,
        tools=("list_folder", "find_files", "set_permissions", "file_info", *_REPAIRS),
        draw=_draw_permit,
        english=(
            'Give the files whose names begin with "{stem}-" and end with .sh the permissions "{mode}". '
            "All others stay as they are.",
            'Find the files "{stem}-*.sh", wherever they are, and set their permissions to "{mode}", no others.',
        ),
        korean='이름이 "{stem}-"로 시작하고 .sh로 끝나는 파일의 권한만 "{mode}"(으)로 바꾸세요.',
        facts=("mode",),
        faults=(
            *_looking("find_files"),
            *_faults("set_permissions", "busy", "timed_out", "not_found", "locked", "unmounted"),
        ),
        plan=_plan_permit,
    ),
    FilesFamily(
        name="repack",
        tier=4,
        tools=("list_zip", "extract_file", "convert_file", "add_to_zip", "unzip_file", *_REPAIRS),
        draw=_draw_repack,
        english=(
            'Copy the .csv file in "{archive}" to "{source}", convert that to "{target}" and put the result into a new '
            'archive "{other}".',
        ),
        korean='"{archive}" 안의 .csv 파일을 "{source}"(으)로 꺼내 "{target}"(으)로 변환하고, 그 결과를 새 압축 파일 '
        '"{other}"에 넣으세요.',
        facts=("name", "target", "other"),
        faults=(*_reading("list_zip"), *_writing("extract_file"), *_writing("convert_file"), *_writing("add_to_zip")),
        plan=_plan_repack,
    ),
    FilesFamily(
        name="collect",
        tier=5,
        tools=("search_text", "read_file", "write_file", "list_folder", *_REPAIRS),
        draw=_draw_collect,
        english=(
            'Write the codes in "{paths[0]}", "{paths[1]}", "{paths[2]}" and "{paths[3]}" into "{target}", '
            "one a line and in this order.",
        ),
        korean='"{paths[0]}", "{paths[1]}", "{paths[2]}", "{paths[3]}"의 코드를 이 순서대로 한 줄에 하나씩 '
        '"{target}"에 쓰세요.',
        facts=("target",),
        faults=(*_reading("read_file"), *_reading("read_file", nth=2), *_writing("write_file")),
        plan=_plan_collect,
    ),
    FilesFamily(
        name="rename",
        tier=5,
        tools=("find_files", "list_folder", "move_file", "add_to_zip", *_REPAIRS),
        draw=_draw_rename,
        english=(
            'Rename the files in "{folder}" whose names begin with "{old}-": they shall begin with "{new}-" instead.',
            'In "{folder}", put "{new}-" in the place of "{old}-" at the beginning of every name that has it.',
        ),
        korean='"{folder}"에서 "{old}-"로 시작하는 파일 이름을 모두 "{new}-"로 시작하게 바꾸세요.',
        facts=("folder",),
        faults=(
            *_looking("list_folder"),
            *_faults("move_file", "busy", "timed_out", "permission_denied", "not_found", "locked", "unmounted"),
            *_faults("move_file", "permission_denied", "locked", nth=2),
        ),
        plan=_plan_rename,
    ),
    FilesFamily(
        name="encode-folder",
        tier=6,
        tools=("list_folder", "file_info", "change_encoding", "read_file", *_REPAIRS),
        draw=_draw_encode_folder,
        english=(
            'Some of the files in "{folder}" are in cp949. Find out which and change these to utf-8.',
            'All files in "{folder}" shall be in utf-8; change those that are in cp949.',
        ),
        korean='"{folder}"의 일부 파일은 cp949입니다. 어느 것인지 알아내 utf-8로 바꾸세요.',
        facts=("folder",),
        faults=(*_looking("list_folder"), *_reading("file_info"), *_writing("change_encoding", "not_found")),
        plan=_plan_encode_folder,
    ),
    FilesFamily(
        name="identify",
        tier=7,
        tools=("list_folder", "read_bytes", "move_file", "file_info", *_REPAIRS),
        draw=_draw_identify,
        english=(
            'The files in "{folder}" are pictures and have lost their suffixes. A .png begins with {png}, a .gif with {gif}, '
            "a .bmp with {bmp}. Look at their first bytes and add the suffixes.",
        ),
        korean='"{folder}"의 파일은 확장자를 잃은 그림입니다. .png는 {png}, .gif는 {gif}, .bmp는 {bmp}(으)로 시작합니다. '
        "첫 바이트를 보고 이름에 확장자를 붙이세요.",
        facts=("folder",),
        faults=(
            *_looking("list_folder"),
            *_reading("read_bytes"),
            *_faults("move_file", "busy", "timed_out", "permission_denied", "locked", "unmounted", nth=1),
        ),
        phrases=_magic_words,
        plan=_plan_identify,
    ),
    FilesFamily(
        name="migrate",
        tier=12,
        tools=("list_folder", "convert_file", "move_file", "write_file", "find_files", "add_to_zip", *_REPAIRS),
        draw=_draw_migrate,
        english=(
            'Convert every .csv file in "{folder}" to a .json file of the same name in "{target}", then move the .csv files '
            'to "{attic}". In the end write how many there were into "{note}".',
        ),
        korean='"{folder}"의 모든 .csv 파일을 "{target}" 폴더에 같은 이름의 .json 파일로 변환한 다음, .csv 파일을 '
        '"{attic}"(으)로 옮기세요. 끝으로 몇 개였는지 "{note}"에 쓰세요.',
        facts=("folder", "note"),
        faults=(
            *_looking("list_folder"),
            *_faults("convert_file", "busy", "permission_denied", "disk_full", "locked", nth=1),
            *_faults("move_file", "timed_out", "not_found", "unmounted", nth=2),
            *_faults("write_file", "disk_full", "busy"),
        ),
        plan=_plan_migrate,
    ),
    FilesFamily(
        name="patch",
        tier=2,
        held_out=True,
        tools=("read_bytes", "read_number", "write_number", "file_info", *_REPAIRS),
        draw=_draw_picture,
        english=(
            "The width of a .{kind} is a number of {size} bytes at offset {offset}, order {order}. "
            'Give "{path}" the width that "{source}" has.',
        ),
        korean=".{kind} 파일의 너비는 오프셋 {offset}부터 {size}바이트({order})입니다. "
        '"{path}"의 너비를 "{source}"의 너비로 바꾸세요.',
        facts=("width", "path"),
        faults=(*_reading("read_number"), *_writing("write_number", "not_found")),
        phrases=_picture_words,
        plan=_plan_patch,
    ),
    FilesFamily(
        name="encode-convert",
        tier=2,
        held_out=True,
        tools=("change_encoding", "convert_file", "read_file", "file_info", *_REPAIRS),
        draw=_draw_encode_convert,
        english=('Change "{source}" from cp949 to utf-8, then convert it to "{target}".',),
        korean='"{source}"의 인코딩을 cp949에서 utf-8로 바꾼 다음 "{target}"(으)로 변환하세요.',
        facts=("source", "target"),
        faults=(*_writing("change_encoding", "not_found"), *_writing("convert_file")),
        plan=_plan_encode_convert,
    ),
    FilesFamily(
        name="picture-size",
        tier=3,
        held_out=True,
        tools=("read_bytes", "read_number", "write_file", "file_info", *_REPAIRS),
        draw=_draw_picture,
        english=(
            "A .{kind} has its width at offset {offset}, its height at offset {offset_2}, each of {size} bytes, order {order}. "
            'Write those of "{source}" into "{target}", with a space between.',
        ),
        korean=".{kind} 파일은 오프셋 {offset}에 너비, 오프셋 {offset_2}에 높이가 각 {size}바이트({order})로 있습니다. "
        '"{source}"의 너비와 높이를 빈칸으로 나누어 "{target}"에 쓰세요.',
        facts=("source", "target"),
        faults=(
            *_reading("read_number"),
            *_faults("read_number", "locked", "not_found", nth=1),
            *_writing("write_file"),
        ),
        phrases=_picture_words,
        plan=_plan_picture_size,
    ),
    FilesFamily(
        name="rules",
        tier=3,
        held_out=True,
        tools=("read_file", "set_permissions", "write_file", "file_info", *_REPAIRS),
        draw=_draw_rules,
        english=(
            'The first line of "{rules}" names the permissions of scripts and a code. Give "{path}" those permissions, '
            'no other file, and write the code into "{target}".',
        ),
        korean='"{rules}"의 첫 줄에 스크립트의 권한과 코드가 있습니다. "{path}"에만 그 권한을 주고 코드를 "{target}"에 쓰세요.',
        facts=("mode", "code"),
        faults=(*_reading("read_file"), *_faults("set_permissions", "busy", "locked"), *_writing("write_file")),
        context_tokens=CONTEXT_TOKENS,
        plan=_plan_rules,
    ),
    FilesFamily(
        name="find-pack",
        tier=4,
        held_out=True,
        tools=("list_folder", "find_files", "add_to_zip", "move_file", *_REPAIRS),
        draw=_draw_find_pack,
        english=('Find the files "{stem}-*", which are in several folders, and pack them into "{archive}".',),
        korean='여러 폴더에 있는 "{stem}-*" 파일을 찾아 "{archive}"(으)로 압축하세요.',
        facts=("archive",),
        faults=(*_looking("find_files"), *_writing("add_to_zip", "not_found"), *_faults("add_to_zip", "busy", nth=2)),
        plan=_plan_find_pack,
    ),
)
