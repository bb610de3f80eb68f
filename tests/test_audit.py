"""The pre-flight audit: planted defects are found through the real entry points, and clean sets raise no alarm."""

from __future__ import annotations

import json
import re
import shutil
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import UserError
from data.chats import Chat, Message, PreferencePair, ToolCall
from data.curation.rows import record_to_row
from data.records import ToolSpec
from data.rendering.chat_template import read_chat_template
from data.rendering.renderer import Renderer
from data.rendering.templates_page import trl_templates
from data.sets.build import BuildConfig, build
from data.sets.prepared import read_prepared
from support.curation_rows import run_steps
from train import dpo, kto, orpo, plan, sft
from train.audit import findings
from train.audit import rendered as rendered_audit
from train.audit import rows as row_audit
from train.options import DataOptions
from train.parsing import parse_options
from train.tree import RenderReport, chats_to_rendered

ROOT = Path(__file__).resolve().parents[1]
METHODS = {"sft": sft, "dpo": dpo, "orpo": orpo, "kto": kto}

READ = ToolSpec.model_validate(
    {
        "function": {
            "name": "read_file",
            "description": "Read a text file.",
            "parameters": {
                "type": "object",
                "properties": {"path": {"type": "string"}, "encoding": {"type": ["string", "null"]}},
                "required": ["path"],
            },
        }
    }
)
WORDS = ("amber", "bridge", "candle", "daisy", "ember", "forest", "garden", "harbor", "island", "jungle", "kettle")


def path_of(n: int) -> str:
    return f"{WORDS[n % 11]}/{WORDS[n // 11 % 11]}-{'보고서' * (n % 2)}{n}.txt"


def call(n: int, *, id: str = "c0", **arguments: Any) -> Message:
    made = {"path": path_of(n), **({"encoding": None} if n % 4 == 0 else {}), **arguments}
    return Message(role="assistant", tool_calls=(ToolCall(id=id, name="read_file", arguments=made),))


def result(text: str, *, id: str = "c0") -> Message:
    return Message(role="tool", content=text, tool_call_id=id, name="read_file")


def chat(n: int, **changes: Any) -> Chat:
    """Clean chat n: a question, a call, its result, an answer; every fifth repairs a failed step, which weighs 0."""
    question = f"{path_of(n)} 파일은 몇 줄입니까?" if n % 2 else f"How many lines are in {path_of(n)}?"
    messages = [Message(role="user", content=question)]
    if n % 5 == 0:
        messages += [call(n, path="nowhere.txt").model_copy(update={"weight": 0.0}), result("Error: no such file")]
    messages += [
        call(n, id="c1"),
        result("line\n" * (n % 9), id="c1"),
        Message(role="assistant", content=f"{n % 9} lines."),
    ]
    return Chat(messages=tuple(messages), tools=(READ,), id=f"chat{n}", source="test", group=f"g{n}").model_copy(
        update=changes
    )


def pair(n: int, **changes: Any) -> PreferencePair:
    """Clean pair n, a step of a trajectory: the right call is chosen, a call that failed is rejected."""
    return PreferencePair(
        prompt=chat(5 * n + 1).messages[:1], chosen=(call(5 * n + 1),), rejected=(call(5 * n + 1, path=f"lines/{n}"),),
        tools=(READ,), id=f"pair{n}", source="test", group=f"g{n}", trunk=f"t{n}", margin=1.0,
    ).model_copy(update=changes)  # fmt: skip


def with_messages(row: Chat, *messages: Message) -> Chat:
    return row.model_copy(update={"messages": messages})


def set_of(rows: Sequence[Any], folder: Path, *, validation_share: float = 0.2) -> Path:
    """A prepared set of `rows`, built as a user does."""
    kind = "chats" if isinstance(rows[0], Chat) else "pairs"
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "rows.jsonl"
    source.write_text("".join(row.model_dump_json() + "\n" for row in rows), encoding="utf-8")
    labelled = isinstance(rows[0], Chat) and rows[0].label is not None
    config = {
        "sources": [{"adapter": kind, "path": str(source)}],
        "validation_share": validation_share,
        "labelled": labelled,
    }
    build(BuildConfig.model_validate(config), out=folder / "set")
    return folder / "set"


def arguments(model: Path, data: Path, out: Path, **more: Any) -> list[str]:
    values = {
        "model_name_or_path": model, "data": data, "output_dir": out, "use_cpu": "true", "bf16": "false",
        "gradient_checkpointing": "false", "max_steps": 4, "per_device_train_batch_size": 2, "report_to": "none",
        "save_strategy": "no", "max_length": 512, "dry_run": "true", **more,
    }  # fmt: skip
    return [
        part
        for name, value in values.items()
        for part in (f"--{name}", *map(str, value if isinstance(value, list) else [value]))
    ]


CHATS = [chat(n) for n in range(30)]
PAIRS = [pair(n) for n in range(24)]


def labelled(n: int, **changes: Any) -> Chat:
    """Clean labelled chat n: of two, one is good and one is bad, and the bad one's call failed."""
    if n % 2 == 0:
        return chat(n, label="good", **changes)
    said = (*chat(n).messages[:1], call(n, path=f"lines/{n}"), result("Error: no such file"))
    return chat(n, label="bad", messages=said, **changes)


LABELLED = [labelled(n) for n in range(30)]


@pytest.mark.parametrize(
    ("method", "rows"),
    [("sft", CHATS), ("dpo", PAIRS), ("orpo", PAIRS), ("kto", LABELLED)],
    ids=["sft", "dpo", "orpo", "kto"],
)
def test_a_clean_set_raises_no_alarm(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str, rows: list[Any]
) -> None:
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text(
        json.dumps({"instruction": "How many lines are in dawn/dusk.txt?", "parameters": {"a": "dawn/dusk.txt"}})
    )
    METHODS[method].main(arguments(tiny_model, set_of(rows, tmp_path), tmp_path / "run", benchmark_tasks=tasks))
    shown = capsys.readouterr().err
    assert "checks, nothing found" in shown
    assert "time, estimated" in shown and "memory, estimated" in shown and "disk, estimated" in shown
    assert not (tmp_path / "run" / "run.json").exists()


# -------------------------------------------------------------------- planted defects

MESSAGE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}"
    "{{ c.function.name }} {{ c.function.arguments | tojson }}{% endfor %}"
)
GENERATE = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
WITHOUT_THOUGHTS = read_chat_template(next(path for path in trl_templates() if path.stem == "qwen2_5"))
WITHOUT_TOOLS = MESSAGE + "<|im_end|>\n{% endfor %}" + GENERATE
CALLS_WITHOUT_END = (
    "{% if tools %}{{ tools | tojson }}{% endif %}"
    + MESSAGE
    + "{% if not m.tool_calls %}<|im_end|>{% endif %}\n{% endfor %}"
    + GENERATE
)


def plain(n: int, question: str | None = None, answer: str | None = None) -> Chat:
    """A chat without tools."""
    return chat(n, tools=()).model_copy(
        update={
            "messages": (
                Message(role="user", content=question or f"What does {path_of(n)} mean?"),
                Message(role="assistant", content=answer or f"It is file number {n}."),
            )
        }
    )


def swap(row: PreferencePair) -> PreferencePair:
    return row.model_copy(update={"chosen": row.rejected, "rejected": row.chosen})


def steps(n: int) -> list[PreferencePair]:
    """Two step pairs of one trajectory: the second one's prompt shows that the first one's rejected call failed."""
    first = pair(n, margin=None)
    prompt = (*first.prompt, *first.rejected, result("Error: no such file"))
    second = pair(
        n,
        margin=None,
        id=f"pair{n}#1",
        prompt=prompt,
        chosen=(call(n, id="c9"),),
        rejected=(call(n, id="c9", path="?"),),
    )
    return [first, second]


def long_chat(n: int, turns: int) -> Chat:
    messages = [
        Message(role=role, content=f"{text} {n} {turn} " + "word " * 40)
        for turn in range(turns)
        for role, text in (("user", "Question"), ("assistant", "Answer"))
    ]
    return with_messages(plain(n), *messages)  # type: ignore[arg-type] # role is one of the two


def first_rows(count: int, change: Callable[[Any], Any], rows: Sequence[Any] = CHATS) -> list[Any]:
    return [change(row) if at < count else row for at, row in enumerate(rows)]


def final(row: Chat, **update: Any) -> Chat:
    return with_messages(row, *row.messages[:-1], row.messages[-1].model_copy(update=update))


def every_call(row: Chat, **update: Any) -> Chat:
    def changed(message: Message) -> Message:
        calls = tuple(
            each.model_copy(update={**update, "arguments": update.get("arguments", each.arguments)})
            for each in message.tool_calls
        )
        return message.model_copy(update={"tool_calls": calls})

    return with_messages(row, *map(changed, row.messages))


def null_schema(row: Chat) -> Chat:
    function = READ.function.model_copy(
        update={"parameters": {"type": "object", "properties": {"path": {"type": "string"}, "city": None}}}
    )
    return row.model_copy(update={"tools": (READ.model_copy(update={"function": function}),)})


# finding, level, method, rows, options, id of a row that must be named (None: the finding is of no row)
DEFECTS: list[tuple[str, str, str, Callable[[], list[Any]], dict[str, Any], str | None]] = [
    ("validation_in_train", "error", "sft",
     lambda: [chat(n // 2, id=f"twin{n}", group=f"g{n}") for n in range(40)], {"audit_allow": ["duplicates"]}, r"twin\d+"),
    ("duplicates", "warning", "sft", lambda: [*CHATS, *(chat(n, id=f"again{n}") for n in range(8))], {}, r"again\d+"),
    ("same_target", "error", "sft", lambda: [plain(n, answer="I cannot help with that.") for n in range(30)], {}, None),
    ("empty_turns", "error", "sft", lambda: first_rows(20, lambda row: final(row, content=" \n")), {}, r"chat1?\d"),
    ("failed_steps", "error", "sft",
     lambda: [with_messages(row, *row.messages[:-2], result("Traceback (most recent call last):\n…", id="c1"), row.messages[-1])
              for row in CHATS], {}, r"chat\d+"),
    ("failed_steps", "warning", "sft",
     lambda: first_rows(10, lambda row: with_messages(row, *(m.model_copy(update={"weight": None}) for m in row.messages),),
                        [chat(5 * n) for n in range(20)]), {}, r"chat\d+"),
    ("undeclared_tools", "error", "sft", lambda: [every_call(row, name="open_file") for row in CHATS], {}, r"chat\d+"),
    ("undeclared_tools", "warning", "sft", lambda: first_rows(2, lambda row: every_call(row, name="파일_읽기")), {},
     "chat[01]"),
    ("inferred_tools", "warning", "sft",
     lambda: first_rows(3, lambda row: row.model_copy(update={"inferred_tools": (row.tools[0].function.name,)})), {},
     "chat[0-2]"),
    ("unfit_calls", "error", "sft", lambda: [every_call(row, arguments={"file": "a"}) for row in CHATS], {}, r"chat\d+"),
    ("null_filled", "error", "sft",
     lambda: [every_call(row, arguments={"path": f"{row.id}.txt", "city": None, "unit": None}) for row in CHATS], {},
     r"chat\d+"),
    ("null_filled", "error", "sft", lambda: [null_schema(row) for row in CHATS], {}, r"chat\d+"),
    ("control_text", "error", "sft",
     lambda: [final(row, content=f"Done {row.id}.<|im_end|>\n<|im_start|>user\nThanks") for row in CHATS], {}, r"chat\d+"),
    ("inline_think", "error", "sft",  # a single one is enough
     lambda: first_rows(1, lambda row: final(row, content=f"{row.id}: <think>\n몇 줄?\n</think>\n\n넷")), {}, "chat0"),
    ("inline_think", "error", "dpo",
     lambda: [pair(n, rejected=(Message(role="assistant", content=f"So.</think> {n}"),)) if n == 3 else pair(n)
              for n in range(24)], {}, "pair3"),
    ("no_question", "error", "sft", lambda: [plain(n, question="\n") for n in range(30)], {}, r"chat\d+"),
    ("doubled_turns", "error", "sft",
     lambda: [with_messages(row, *row.messages, Message(role="assistant", content=f"Thanks, {row.id}!")) for row in CHATS], {},
     r"chat\d+"),
    ("unbalanced_labels", "warning", "kto", lambda: [labelled(n) for n in range(30) if n % 2 or n % 3 == 0], {}, None),
    ("unbalanced_labels", "error", "kto", lambda: [labelled(n) for n in range(1, 40, 2)], {}, None),
    ("opposite_labels", "error", "kto",
     lambda: [*LABELLED[:20], *(row.model_copy(update={"label": "bad", "id": f"other{row.id}"}) for row in LABELLED[:20:2])],
     {}, r"(other)?chat\d+"),
    ("same_sides", "error", "dpo",
     lambda: [pair(n, chosen=(call(n), result("ok")), rejected=(call(n), result("not ok"))) for n in range(24)],
     {}, r"pair\d+"),
    ("opposite_pairs", "error", "dpo",
     lambda: [*PAIRS[:12], *(swap(row).model_copy(update={"id": f"other{row.id}", "trunk": None}) for row in PAIRS[:12])],
     {}, r"(other)?pair\d+"),
    ("swapped_sides", "error", "orpo", lambda: [pair(n, margin=-1.0 if n % 3 == 0 else 2.0) for n in range(24)], {},
     "pair([0369]|12|15|18|21)"),
    ("swapped_sides", "error", "dpo",
     lambda: [pair(n, chosen=(call(n), result("Error: gone")), rejected=(call(n, path=f"a/{n}"), result("ok")))
              for n in range(24)], {}, r"pair\d+"),
    ("swapped_sides", "error", "dpo", lambda: [swap(row) for n in range(12) for row in steps(n)], {}, r"pair\d+"),
    ("swapped_sides", "warning", "dpo", lambda: [pair(n, margin=-1.0 if n == 3 else 2.0) for n in range(24)], {}, "pair3"),
    ("rejected_looks_better", "error", "dpo",
     lambda: [swap(pair(n, margin=None, rejected=(call(n, path=f"invented/{n}/name.md"),))) for n in range(24)], {},
     r"pair\d+"),
    ("only_rejected_calls", "warning", "dpo",
     lambda: [pair(n, margin=None, chosen=(Message(role="assistant", content=f"No {n}."),), rejected=(call(5 * n + 1),))
              for n in range(24)], {}, r"pair\d+"),
    ("template_loses", "error", "sft", lambda: [*CHATS, *(plain(n) for n in range(30, 60))],
     {"chat_template_path": WITHOUT_TOOLS}, r"chat[12]?\d"),
    ("lost_context", "warning", "sft",  # the template shows no thoughts, and the turns that hold them are only context
     lambda: first_rows(6, lambda row: with_messages(
         row, Message(role="user", content=row.id), Message(role="assistant", content="예", reasoning_content="x", weight=0),
         *row.messages)), {"chat_template_path": WITHOUT_THOUGHTS}, None),
    ("no_stop_token", "error", "sft", lambda: [*CHATS, *(plain(n) for n in range(30, 60))],
     {"chat_template_path": CALLS_WITHOUT_END}, r"chat[12]?\d"),
    ("stop_not_served", "warning", "sft", lambda: CHATS, {"generation_config": {"eos_token_id": 0}}, r"chat\d+"),
    ("dropped", "error", "sft", lambda: first_rows(12, lambda row: with_messages(row, Message(role="user", content=row.id),
                                                       Message(role="assistant", content="word " * 600))), {},
     r"chat\d|chat1[01]"),
    ("dropped_at_build", "warning", "sft",
     lambda: first_rows(20, lambda row: with_messages(row, *(m.model_copy(update={"weight": 0.0}) for m in row.messages))),
     {}, None),
    ("cut", "error", "sft", lambda: [long_chat(n, 6) for n in range(24)], {}, None),
    ("lost_turns", "error", "sft",
     lambda: [with_messages(plain(n), *plain(n).messages, Message(role="user", content=f"More {n}"),
                            Message(role="assistant", content="word " * 600)) for n in range(24)], {}, None),
    ("little_scored", "error", "sft",
     lambda: [plain(n, question=f"{n} " + "word " * 1500, answer=f"{n}") for n in range(24)], {"max_length": 2000}, None),
    ("all_scored", "warning", "sft", lambda: [plain(n, question="?", answer=f"word {n} " * 120) for n in range(24)],
     {"audit_allow": ["validation_in_train"]}, None),
    ("context_window", "error", "sft", lambda: CHATS, {"config": {"max_position_embeddings": 64}}, r"chat\d+"),
    ("no_validation", "warning", "sft", lambda: [chat(n, group="one") for n in range(30)], {}, None),
    ("batch", "warning", "sft", lambda: CHATS, {"per_device_train_batch_size": 64}, None),
    ("warmup", "error", "sft", lambda: CHATS, {"warmup_steps": 100}, None),
]  # fmt: skip


@pytest.fixture(scope="module")
def cached_renderers() -> Any:
    """Making a renderer takes most of a dry run; one for each model and template will do."""
    made: dict[tuple[str, str], Renderer] = {}
    original = Renderer.from_pretrained.__func__  # type: ignore[attr-defined] # a classmethod's function

    def from_pretrained(cls: Any, model: Any, *, chat_template_path: Any = None) -> Renderer:
        template = Path(chat_template_path).read_text() if chat_template_path else ""
        if (str(model), template) not in made:
            made[str(model), template] = original(cls, model, chat_template_path=chat_template_path)
        return made[str(model), template]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Renderer, "from_pretrained", classmethod(from_pretrained))
        yield


def prepare(tiny_model: Path, folder: Path, more: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """The model and the options of a defect: some change the model's files, some need a template file."""
    more = dict(more)
    model = tiny_model
    for name in ("config", "generation_config"):
        if name in more:
            model = folder / "model"
            shutil.copytree(tiny_model, model)
            path = model / f"{name}.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), **more.pop(name)}))
    if "chat_template_path" in more:
        (folder / "template.jinja").write_text(more["chat_template_path"])
        more["chat_template_path"] = folder / "template.jinja"
    return model, more


@pytest.mark.parametrize(
    ("name", "level", "method", "rows", "more", "row"),
    DEFECTS,
    ids=[f"{d[0]}-{d[1]}-{at}" for at, d in enumerate(DEFECTS)],
)
def test_a_planted_defect_is_found(
    cached_renderers: None, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    name: str, level: str, method: str, rows: Callable[[], list[Any]], more: dict[str, Any], row: str | None,
) -> None:  # fmt: skip
    model, more = prepare(tiny_model, tmp_path, more)
    argv = arguments(model, set_of(rows(), tmp_path), tmp_path / "run", **more)
    if level == "error":
        with pytest.raises(UserError, match=r"\A(?s:the audit refuses this run\n.*--audit_allow )") as raised:
            METHODS[method].main(argv)
        (told,) = [line for line in str(raised.value).splitlines() if line.startswith(f"  {name}: ")]
    else:
        METHODS[method].main(argv)
        told = " ".join(capsys.readouterr().err.split(f"  {name}: ")[1].split())
    named = told.split("Rows: ")[1].split(". ")[0].split(", ") if "Rows: " in told else []
    assert bool(named) == (row is not None)
    assert all(re.fullmatch(row or "", each) for each in named), named


def test_defects_cover_the_table() -> None:
    """Each check is planted above, or in a test of its own below."""
    own = {"test_tasks", "unknown_ids", "memory", "disk", "time"}
    assert {defect[0] for defect in DEFECTS} | own == set(findings.LIMITS)


# -------------------------------------------------------------------- the benchmark's tasks

TASK = {
    "instruction": "Rename  “Quartz Lagoon/Velvet-17.csv” into CINDER/thistle.csv, then tell me how many rows it holds please.",
    "parameters": {"source": "Quartz Lagoon/Velvet-17.csv", "target": "CINDER/thistle.csv"},
    "facts": {"rows": 42},
}
KOREAN_TASK = {
    "instruction": '토큰 "물결"으로 로그인해서 주문 "등대지기"를 취소해 주세요',
    "parameters": {"token": "물결"},
}


@pytest.mark.parametrize(
    "row",
    [
        plain(99, question="rename \"quartz lagoon/velvet 17.csv\"  into cinder/THISTLE.csv;\n"
              "then tell me how many rows it holds, please"),
        plain(99, question="Be quick. Into CINDER/thistle.csv, then tell me how many rows it holds please. Rename it."),
        plain(99, answer="As before: rename quartz lagoon velvet 17 csv into cinder thistle csv then tell me how many"),
        plain(99, question="토큰 “물결”으로  로그인해서 주문 '등대지기'를 취소해 주세요!"),
        every_call(chat(99), arguments={"to": "cinder/thistle.csv", "options": {"from": "QUARTZ LAGOON / VELVET-17.CSV"}}),
        pair(99, rejected=(call(1, path="Quartz Lagoon/Velvet-17.csv", encoding="CINDER/thistle.csv"),)),
    ],
    ids=["case-and-space", "thirteen-words", "in-an-answer", "korean", "call", "call-in-a-pair"],
)  # fmt: skip
def test_a_test_task_in_the_data_is_found(
    cached_renderers: None, tiny_model: Path, tmp_path: Path, row: Chat | PreferencePair
) -> None:
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text("\n".join(map(json.dumps, [TASK, KOREAN_TASK])) + "\n")
    rows, method = ([*CHATS, row], sft) if isinstance(row, Chat) else ([*PAIRS, row], dpo)
    argv = arguments(tiny_model, set_of(rows, tmp_path), tmp_path / "run", benchmark_tasks=tasks)
    with pytest.raises(UserError, match=rf"test_tasks: 1 of 2 .* Rows: {row.id}\."):
        method.main(argv)


def test_copies_that_a_weight_asked_for_are_no_duplicates(tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(row.model_dump_json() + "\n" for row in CHATS[:6]))
    config = {"sources": [{"adapter": "chats", "path": str(source), "weight": 2.5}], "validation_share": 0.0}
    manifest = build(BuildConfig.model_validate(config), out=tmp_path / "set")
    train = read_prepared(tmp_path / "set").train
    copies = manifest["splits"]["train"]["copies"]
    assert len(train) == 15 and copies == 9

    def duplicates(rows: Sequence[Any]) -> findings.Finding:
        return next(f for f in row_audit.audit_repetition(rows, [], copies=copies) if f.name == "duplicates")

    assert duplicates(train).count == 0
    again = duplicates([*train, chat(2, id="again")])
    assert (again.count, again.rows) == (1, ("again",))


def found_tasks(tasks: Sequence[Any], row: Chat | PreferencePair, folder: Path) -> set[str]:
    """Ids of the tasks that the audit finds in a row, after it has found what curation finds."""
    path = folder / "tasks.jsonl"
    path.write_text("".join(json.dumps(task, ensure_ascii=False) + "\n" for task in tasks), encoding="utf-8")
    reference = row_audit.read_test_tasks(path)
    finding = row_audit.audit_test_tasks([row], reference)
    _, dropped, _ = run_steps(
        folder, [row.model_dump(mode="json"), plain(1).model_dump(mode="json")],
        {"step": "decontaminate", "against": [str(path)]},
    )  # fmt: skip
    assert [entry["row"]["id"] for entry in dropped] == list(finding.rows)
    return {match.reference for match in reference.matches(record_to_row(row))}


def test_the_wording_of_a_template_is_no_overlap(tmp_path: Path) -> None:
    """Tasks of one template differ in their values; sharing the wording with training rows is what they are for."""
    wording = "Please look into the file {} and tell me how many lines of it do hold the word that I need, which is {}"
    tasks = [{"id": f"t{n}", "instruction": wording.format(f"a{n}", f"b{n}")} for n in range(5)]
    assert found_tasks(tasks, plain(99, question=wording.format("c1", "d1")), tmp_path) == set()
    assert found_tasks(tasks, plain(99, question=wording.format("a3", "b3")), tmp_path) == {"t3"}


PLAIN_TASK = {
    "id": "plain",
    "instruction": "사무실 3층 회의실 예약을 다음 주 화요일 오전 열 시에서 오후 네 시로 옮기고 "
    "참석자 다섯 명에게 바뀐 시각을 메일로 알린 다음 모두의 답장을 표로 정리하고 "
    "아직 답하지 않은 사람에게는 다음 날 아침에 한 번 더 물어봐 주세요",
}
SHORT_TASK = {"id": "short", "instruction": "회의록을 요약해서 팀에 보내 주세요"}


def in_result(text: str) -> Chat:
    row = chat(99)
    return with_messages(row, *(message.model_copy(update={"content": text}) if message.role == "tool" else message
                                for message in row.messages))  # fmt: skip


def in_two(text: str) -> Chat:
    half = len(text) // 2
    turns = (Message(role="user", content=text[:half]), Message(role="assistant", content="Go on."))
    return with_messages(chat(99), *turns, Message(role="user", content=text[half:]), *turns[1:])


WAYS: dict[str, Callable[[str], Chat]] = {
    "verbatim": lambda text: plain(99, question=text),
    "other case": lambda text: plain(99, question=text.swapcase()),
    "other white space": lambda text: plain(99, question=text.replace(" ", "\n \u00a0\t")),
    "no spaces": lambda text: plain(99, question=text.replace(" ", "")),
    "no punctuation": lambda text: plain(99, question="".join(c if c.isalnum() else " " for c in text)),
    "more punctuation": lambda text: plain(99, question=text.replace(" ", " - ") + "!!"),
    "full width": lambda text: plain(99, question="".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)),
    "decomposed": lambda text: plain(99, question=unicodedata.normalize("NFD", text)),
    "decomposed without spaces": lambda text: plain(99, question=unicodedata.normalize("NFD", text.replace(" ", ""))),
    "zero-width characters": lambda text: plain(99, question="\u200b".join(text)),
    "inside a longer text": lambda text: plain(99, question=f"안녕하세요. {text} Thank you, that is all for today."),
    "in two messages": in_two,
    "in a tool result": in_result,
    "in the answer": lambda text: plain(99, answer=text),
    "numbers as words": lambda text: plain(99, question=re.sub(r"\d+", "thirty", text)),
    "the other language": lambda text: plain(99, question="Move the meeting on the third floor, please."),
    "a call of its values": lambda text: every_call(
        chat(99), arguments={"to": "cinder/thistle.csv", "from": "QUARTZ LAGOON/velvet-17.csv"}),
    "a call of one value": lambda text: every_call(chat(99), arguments={"path": "CINDER/thistle.csv"}),
}  # fmt: skip
NOT_FOUND = {
    "plain": {"the other language", "a call of its values", "a call of one value"},
    "TASK": {"no spaces", "decomposed without spaces", "in two messages", "the other language",
             "a call of one value"},
    "short": {"inside a longer text", "in two messages", "the other language", "a call of its values",
              "a call of one value"},
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_audit_and_curation_find_the_same_copies(way: str, tmp_path: Path) -> None:
    tasks = [{"id": "TASK", **TASK}, PLAIN_TASK, SHORT_TASK]
    for task in tasks:
        found = found_tasks(tasks, WAYS[way](task["instruction"]), tmp_path)  # type: ignore[arg-type] # it is text
        if way == "a call of its values":
            assert found == {"TASK"}
        else:
            assert found == (set() if way in NOT_FOUND[task["id"]] else {task["id"]})  # type: ignore[index] # as above


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "nothing to compare with"),
        (
            '{"instruction": "a"}\n{"instructions": "b"}\n',
            r"tasks\.jsonl:2: a task is an object with .*'instruction'",
        ),
        ("[1]\n", r"tasks\.jsonl:1: a task is"),
        ('{"instruction": \n', r"tasks\.jsonl:1: not JSON"),
    ],
)
def test_a_wrong_file_of_tasks_is_told_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        row_audit.read_test_tasks(path)
    with pytest.raises(UserError, match="cannot be read"):
        row_audit.read_test_tasks(tmp_path / "nowhere.jsonl")


# -------------------------------------------------------------------- limits, refusal and what is left behind


def test_memory_disk_and_time_are_refused_above_their_limits(
    cached_renderers: None, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_free_memory", lambda device: 1.0)
    monkeypatch.setattr(plan, "matmul_rate", lambda device, dtype: 1.0)
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(UserError, match=r"(?s)memory: .*GB.*disk: .*GB.*time: .*--audit_allow memory disk time"):
        sft.main(arguments(tiny_model, set_of(CHATS, tmp_path), tmp_path / "run"))


def test_a_finding_is_passed_knowingly_by_its_name_and_kept_in_run_json(
    cached_renderers: None, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [plain(n, question="\n") for n in range(12)]
    argv = arguments(tiny_model, set_of(rows, tmp_path), tmp_path / "run", max_steps=1, dry_run="false")
    with pytest.raises(UserError, match=r"--audit_allow validation_in_train no_question \(limits"):
        sft.main(argv)
    assert not (tmp_path / "run" / "run.json").exists()  # nothing was trained
    capsys.readouterr()
    sft.main([*argv, "--audit_allow", "validation_in_train", "no_question"])
    assert "│ no_question         │ allowed │" in capsys.readouterr().err
    found = {finding["name"]: finding for finding in json.loads((tmp_path / "run" / "run.json").read_text())["audit"]}
    assert found["no_question"]["level"] == "error" and found["no_question"]["count"] == 12
    assert found["no_question"]["rows"][0].startswith("chat")
    assert found["empty_turns"]["level"] == "ok"


def test_evaluation_without_validation_rows_is_a_message(
    cached_renderers: None, tiny_model: Path, tmp_path: Path
) -> None:
    data = set_of(CHATS, tmp_path, validation_share=0.0)
    with pytest.raises(UserError, match=r"no row is left for --eval_strategy steps \(the validation split is empty"):
        sft.main(arguments(tiny_model, data, tmp_path / "run", eval_strategy="steps", eval_steps=2))


@pytest.mark.parametrize("written", ["no_question", "[no_question]"])
def test_findings_are_allowed_in_a_yaml_file(tmp_path: Path, written: str) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(f"audit_allow: {written}\n")
    (options,) = parse_options((DataOptions,), ["--config", str(config)])
    assert options.audit_allow == ["no_question"]


def test_an_unknown_finding_is_named_with_its_neighbour(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"--audit_allow duplicate: there is no such finding\. Did you mean 'duplicates'"
    ):
        sft.main(arguments(tiny_model, set_of(CHATS, tmp_path), tmp_path / "run", audit_allow=["duplicate"]))


def test_levels_follow_the_limits_alone() -> None:
    for name, limit in findings.LIMITS.items():
        for share in (0.0, limit.warn_above or 0.0, limit.refuse_above or 0.0):
            finding = findings.Finding(name, share * 1000, 1000)
            assert finding.level != "error" or (limit.refuse_above is not None and share > limit.refuse_above)
            above = replace(finding, count=finding.count + 1)
            expected = (
                "error" if limit.refuse_above is not None and above.share > limit.refuse_above
                else "warning" if limit.warn_above is not None and above.share > limit.warn_above
                else "ok"
            )  # fmt: skip
            assert above.level == expected
        assert findings.Finding(name, 0, 0).level == "ok"  # nothing to count is nothing found
        assert limit.warn_above is None or limit.refuse_above is None or limit.warn_above <= limit.refuse_above


def test_ids_beyond_the_embeddings_and_unscored_stops_are_found_in_what_was_rendered(
    tiny_model: Path, tmp_path: Path
) -> None:
    """What a right tokenizer and renderer cannot give, so it is planted into the sequences themselves."""
    renderer = Renderer.from_pretrained(tiny_model)
    prepared = read_prepared(set_of(CHATS[:6], tmp_path, validation_share=0.0))
    rendered, report = chats_to_rendered(prepared.train, renderer, max_tokens=None)

    def found(rows: Sequence[Any]) -> dict[str, findings.Finding]:
        counted = rendered_audit.audit_rendering(
            prepared, {"train": rows, "validation": []}, {"train": report, "validation": RenderReport()}, renderer,
            max_tokens=None, served_stop_ids=renderer.stop_ids, window=8192, vocabulary=49152,
        )  # fmt: skip
        return {finding.name: finding for finding in counted}

    assert all(finding.level == "ok" for finding in found(rendered).values())
    (ids, weights), *_ = rendered[2].sides[0]
    last = max(at for at, weight in enumerate(weights) if weight > 0)
    unscored = [0.0 if at == last else weight for at, weight in enumerate(weights)]
    changed = [*rendered[:2], replace(rendered[2], sides=(((ids, unscored),),)), *rendered[3:]]
    assert (found(changed)["no_stop_token"].level, found(changed)["no_stop_token"].rows) == ("error", (rendered[2].id,))
    changed = [*rendered[:2], replace(rendered[2], sides=((([*ids[:-1], 50_000], weights),),)), *rendered[3:]]
    assert found(changed)["unknown_ids"].rows == (rendered[2].id,)


@pytest.mark.parametrize(
    ("text", "failed"),
    [
        ("Error: no such file", True),
        ("  [ERROR] disk: full", True),
        ("Traceback (most recent call last):\n", True),
        ('{"error": "not found"}', True),
        ('{ "error" : {"code": 404} }', True),
        ('{"error": "", "response": "[]"}', False),
        ('{"error": null, "rows": 2}', False),
        ('{"error":false}', False),
        ("Errors are described in chapter 3.", False),
        ("오류 없이 끝났습니다.", False),
        ("", False),
    ],
)
def test_results_that_are_errors_are_told_from_those_that_speak_of_errors(text: str, failed: bool) -> None:
    assert row_audit.turn_failed([call(1), result(text)], 0) is failed


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.sampled_from(["object", "null", "string"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["properties", "required", "type", "enum", "default", "nullable", "additionalProperties", "path"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["properties", "required", "additionalProperties", "type"]), json_values),
    st.dictionaries(st.sampled_from(["path", "type"]), json_values),
)
def test_no_schema_and_no_arguments_break_the_audit(parameters: dict[str, Any], made: dict[str, Any]) -> None:
    tool = ToolSpec.model_validate({"function": {"name": "read_file", "parameters": parameters}})
    row = every_call(chat(1), arguments=made).model_copy(update={"tools": (tool,)})
    assert {finding.name for finding in row_audit.audit_turns([row], set())} >= {"unfit_calls", "null_filled"}


def test_ids_are_shown_so_that_they_cannot_steer_a_terminal() -> None:
    told = findings.explain(findings.Finding("empty_turns", 2, 2, ("\x1b[2J[red]\n", "기록-1")))
    assert "Rows: \\x1b[2J[red]\\n, 기록-1." in told and "\x1b" not in told


def test_the_document_shows_the_limits_as_they_are() -> None:
    assert findings.limits_to_markdown() in (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
