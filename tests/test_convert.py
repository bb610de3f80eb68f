"""`data convert` and `data adapters`: which adapter is taken, what is written, and what a user is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import data.formats.inputs
from core.command_line import run_command
from core.config import read_config
from core.errors import UserError
from data.__main__ import app
from data.commands.sets import catalogue
from data.formats.catalogue import ADAPTERS
from data.formats.inputs import find_input
from data.formats.recognise import find_adapter
from data.sets.build import BuildConfig, build
from data.sets.convert import convert
from support.golden import expected_file, result_of
from support.paths import SAMPLES

ROOT = Path(__file__).parents[1]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process: exit code, standard output, standard error."""

    def run_here(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["data", *map(str, arguments)])
        try:
            run_command(app, name="python -m data")
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_here


def write_rows(path: Path, *rows: Any) -> Path:
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows)
    )
    return path


def chats_in(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def qa(number: int, **row: Any) -> dict[str, Any]:
    return {"instruction": f"질문 {number}", "input": "", "output": f"답 {number}", **row}


def lines_of(name: str) -> int:
    """The number of sample rows of an adapter."""
    return len((SAMPLES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines())


# --- the commands ---


def test_convert_counts_and_writes(run: Run, tmp_path: Path) -> None:
    out_file = tmp_path / "new" / "chats.jsonl"
    code, out, _ = run("convert", "--adapter", "openai_chat", SAMPLES / "openai_chat.jsonl", "--out", out_file)
    assert code == 0
    kept = [entry for entry in json.loads(expected_file("openai_chat").read_text())["results"] if "skip" not in entry]
    assert chats_in(out_file) == [result_of(entry).model_dump(mode="json") for entry in kept]
    counts = json.loads((tmp_path / "new" / "chats.counts.json").read_text(encoding="utf-8"))
    assert counts["read"] == counts["kept"] + sum(counts["dropped"].values()) == lines_of("openai_chat")
    assert "dropped: content that is not text" in out
    assert sorted(path.name for path in out_file.parent.iterdir()) == ["chats.counts.json", "chats.jsonl"]
    # What it writes is what the adapter `chats` reads, and `auto` knows it.
    assert run("convert", out_file, "--out", tmp_path / "again.jsonl")[0] == 0
    assert (tmp_path / "again.jsonl").read_bytes() == out_file.read_bytes()


def test_convert_mistakes(run: Run, tmp_path: Path) -> None:
    source, out_file = SAMPLES / "openai_chat.jsonl", tmp_path / "c.jsonl"
    for arguments, message in [
        (("--adapter", "openai", source), "Did you mean 'openai_chat'"),
        (("--adapter", "sharegpt", source), f"no row of {lines_of('openai_chat')} can be kept"),
        (("--adapter", "sharegpt_tools", source), " x column 'conversations' is no list of objects"),
        (("--adapter", "openai_chat", tmp_path / "none.jsonl"), "none.jsonl: there is no such file or folder"),
        (("--adapter", "no_module_of_this_name:f", source), "No module named 'no_module_of_this_name'"),
        (("--adapter", "json:laods", source), "json has no function 'laods'. Did you mean 'loads'"),
        (("--adapter", "none.yaml", source), "none.yaml: cannot be read"),
        (
            ("--adapter", "alpaca_52k", "--licence", "commercial", source),
            "refuses alpaca_52k: its licence (cc-by-nc-4.0)",
        ),
        (("--revision", "main", source), "only a dataset on the hub has one"),
        (("--licence", "free", source), "commercial"),
    ]:
        code, _, err = run("convert", *arguments, "--out", out_file)
        assert code == 2 and message in err and "Traceback" not in err
    code, _, err = run("convert", source, "--out", tmp_path)
    assert code == 2 and "is a folder" in err
    assert list(tmp_path.iterdir()) == []
    rows = write_rows(out_file, qa(1))
    code, _, err = run("convert", rows, "--out", out_file)
    assert code == 2 and "is one of the inputs" in err and chats_in(rows) == [qa(1)]


def test_bad_rows_are_kept_apart_and_the_rest_goes_on(run: Run, tmp_path: Path) -> None:
    rows = write_rows(
        tmp_path / "rows.jsonl", qa(1), '{"instruction": NaN}', "[1]", qa(2, output=None), qa(3), '{"x": "\\ud800"}'
    )
    out_file = tmp_path / "out.jsonl"
    code, out, _ = run("convert", rows, "--out", out_file)
    assert code == 0 and len(chats_in(out_file)) == 2
    assert f"3 bad rows are in {tmp_path / 'out.bad.jsonl'}" in out and f"{rows}:2: NaN is not JSON" in out
    counts = json.loads((tmp_path / "out.counts.json").read_text())
    assert (counts["rows"], counts["read"], counts["kept"], counts["bad"]) == (6, 6, 2, 3)
    bad = chats_in(tmp_path / "out.bad.jsonl")
    assert [(line["line"], line["text"]) for line in bad] == [
        (2, '{"instruction": NaN}'),
        (3, "[1]"),
        (6, '{"x": "\\ud800"}'),
    ]
    assert bad[1]["reason"] == "a row is a JSON object, got list"

    code, _, err = run("convert", rows, "--out", tmp_path / "few.jsonl", "--max_bad", 2)
    assert code == 2 and "3 bad rows, and --max_bad is 2" in err and not (tmp_path / "few.jsonl").exists()
    assert run("convert", rows, "--out", tmp_path / "few.jsonl", "--max_bad", 3)[0] == 0
    # A clean run leaves no file of bad rows behind, not even an older one.
    assert run("convert", write_rows(tmp_path / "good.jsonl", qa(1)), "--out", out_file)[0] == 0
    assert not (tmp_path / "out.bad.jsonl").exists()


def test_a_tree_gives_several_chats_and_the_counts_say_so(run: Run, tmp_path: Path) -> None:
    code, out, _ = run(
        "convert", SAMPLES / "oasst1_all.jsonl", "--adapter", "oasst1_all", "--out", tmp_path / "o.jsonl"
    )
    assert code == 0 and "rows gave" in out
    chats = chats_in(tmp_path / "o.jsonl")
    assert {(chat["source"], chat["licence"]) for chat in chats} == {
        ("oasst1_all/en", "apache-2.0"),
        ("oasst1_all/ko", "apache-2.0"),
        ("oasst1_all", "apache-2.0"),  # a tree that names no language
    }
    assert len({chat["id"] for chat in chats}) == len(chats) > len({chat["group"] for chat in chats})


def test_adapters_table_and_catalogue(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("adapters")
    assert code == 0 and all(name in out for name in ADAPTERS)
    assert "non-commercial, OpenAI-derived" in next(line for line in out.splitlines() if line.startswith("alpaca_52k"))
    code, printed, _ = run("adapters", "--markdown")
    assert run("adapters", "--out", tmp_path / "new.md")[0] == 0
    assert printed == (tmp_path / "new.md").read_text(encoding="utf-8") == catalogue() + "\n"
    table = [line for line in printed.splitlines() if line.startswith("|")]
    assert len(table) == len(ADAPTERS) + 2 * 3 and len({line.replace("\\|", "").count("|") for line in table}) == 1


def test_the_committed_catalogue_is_up_to_date() -> None:
    committed = (ROOT / "docs" / "dataset-catalogue.md").read_text(encoding="utf-8")
    assert committed == catalogue() + "\n", "run: python -m data adapters --markdown --out docs/dataset-catalogue.md"


@pytest.mark.parametrize("command", ["convert", "adapters"])
def test_help_has_examples(run: Run, command: str) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0 and "Examples:" in out and f"python -m data {command}" in out


# --- which adapter ---


def test_auto_refuses_what_fits_equally_well_or_not_at_all(tmp_path: Path) -> None:
    # Two columns for alpaca, two for prompt/completion.
    rows = write_rows(tmp_path / "two.jsonl", {**qa(1), "prompt": "a", "completion": "b"})
    with pytest.raises(
        UserError, match=r"2 adapters fit equally well(.|\n)*--adapter alpaca: 1 of 1 rows(.|\n)*--adapter trl_prompt"
    ):
        find_adapter("auto", find_input(str(rows)), may_import=False)
    rows = write_rows(tmp_path / "none.jsonl", {"frage": "a", "antwort": "b"})
    with pytest.raises(
        UserError, match=r"no adapter recognises its rows, which have the columns frage, antwort\. Name one"
    ):
        find_adapter("auto", find_input(str(rows)), may_import=False)
    with pytest.raises(UserError, match="nothing to recognise"):
        find_adapter("auto", find_input(str(write_rows(tmp_path / "empty.jsonl", "[1]"))), may_import=False)


def test_auto_knows_datasets_by_their_hub_id() -> None:
    def named(hub_id: str) -> str:
        return find_adapter("auto", find_input(hub_id), may_import=False)[0].name

    assert named("tatsu-lab/alpaca") == "alpaca_52k" and named("open-orca/slimorca") == "slim_orca"
    with pytest.raises(UserError, match=r"3 adapters read it; choose one: oasst1, oasst1_all, oasst1_pairs"):
        named("OpenAssistant/oasst1")


def test_hub_ids_are_written_as_the_hub_writes_them() -> None:
    for adapter in ADAPTERS.values():
        assert adapter.hub_id is None or adapter.hub_id.count("/") == 1
        assert not adapter.terms.non_commercial or adapter.terms.licence, adapter.name


# --- other layouts ---


@pytest.mark.parametrize(
    ("mapping", "row", "chat"),
    [
        (
            "prompt: frage\nresponse: antwort\nsystem: rolle\nid: nr\nreasoning: denken\nlicence: MIT\ngroup: aufgabe",
            {"frage": "왜?", "antwort": "그래서.", "rolle": "짧게", "nr": 7, "denken": "hm", "aufgabe": 3},
            {
                "roles": ["system", "user", "assistant"],
                "id": "7", "licence": "MIT", "group": "3", "source": "map", "last": "그래서.", "reasoning": "hm",
            },
        ),
        (
            "messages: dialog\nrole_key: wer\ncontent_key: was\nroles: {kunde: user, agent: assistant}\nsource: support",
            {"dialog": [{"wer": "kunde", "was": "Hi"}, {"wer": "agent", "was": ""}], "id": "x"},
            {"roles": ["user", "assistant"], "licence": None, "source": "support", "last": "", "reasoning": None},
        ),
    ],
)  # fmt: skip
def test_a_mapping_says_which_column_is_what(
    tmp_path: Path, mapping: str, row: dict[str, Any], chat: dict[str, Any]
) -> None:
    (tmp_path / "map.yaml").write_text(mapping, encoding="utf-8")
    rows = write_rows(tmp_path / "rows.jsonl", row, {"other": 1})
    counts = convert(find_input(str(rows)), tmp_path / "out.jsonl", adapter=str(tmp_path / "map.yaml"))
    assert counts["kept"] == 1 and all(reason.startswith("there is no column") for reason in counts["dropped"])
    (made,) = chats_in(tmp_path / "out.jsonl")
    found = {
        **made,
        "roles": [message["role"] for message in made["messages"]],
        "last": made["messages"][-1]["content"],
        "reasoning": made["messages"][-1]["reasoning_content"],
    }
    assert {key: found[key] for key in chat} == chat


def test_a_mapping_of_pairs_with_tools(tmp_path: Path) -> None:
    (tmp_path / "map.yaml").write_text("prompt: q\nchosen: good\nrejected: bad\ntools: fns\n")
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"도시": "서울"}}}]}
    row = {"q": "날씨?", "good": [call], "bad": "몰라요", "fns": [{"name": "f", "parameters": {}}]}
    rows = write_rows(tmp_path / "rows.jsonl", row, {**row, "bad": [call]})
    counts = convert(find_input(str(rows)), tmp_path / "out.jsonl", adapter=str(tmp_path / "map.yaml"))
    assert (counts["kept"], counts["dropped"]) == (1, {"both sides are the same": 1})
    (pair,) = chats_in(tmp_path / "out.jsonl")
    assert (
        pair["chosen"][0]["tool_calls"][0]["arguments"] == {"도시": "서울"}
        and pair["tools"][0]["function"]["name"] == "f"
    )


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("promt: a\nresponse: b", r"map\.yaml: field 'promt' is unknown\. Did you mean 'prompt'"),
        ("prompt: a", "found none of them whole"),
        ("prompt: a\nresponse: b\nmessages: c", "found messages beside prompt and response"),
        ("messages: a\nroles: {x: boss}", "roles.x"),
    ],
)
def test_a_wrong_mapping_is_told(tmp_path: Path, mapping: str, message: str) -> None:
    (tmp_path / "map.yaml").write_text(mapping)
    with pytest.raises(UserError, match=message):
        find_adapter(str(tmp_path / "map.yaml"), find_input(str(SAMPLES / "chats.jsonl")), may_import=False)


def test_a_function_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from data.chats import Chat, Message, Skip\n"
        "def row(row):\n"
        "    if row['n'] == 2: return Skip('two')\n"
        "    if row['n'] == 3: return None\n"
        "    said = (Message(role='user', content='q'), Message(role='assistant', content=str(1 // row['n'])))\n"
        "    return [Chat(messages=said, id=str(row['n']), source='')] * 2\n"
    )
    write_rows(tmp_path / "rows.jsonl", *({"n": n} for n in range(4)))
    command = ["-m", "data", "convert", "rows.jsonl", "--adapter", "mine:row", "--out", "out.jsonl", "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [chat["source"] for chat in chats_in(tmp_path / "out.jsonl")] == ["mine:row", "mine:row"]
    reasons = [line["reason"] for line in chats_in(tmp_path / "out.bad.jsonl")]
    assert "ZeroDivisionError" in reasons[0] and "mine:row returned NoneType, not a Chat" in reasons[1]


# --- workers ---


@pytest.mark.parametrize("name", ["sharegpt", "oasst1_all", "hh_rlhf", "otel_genai"])
def test_the_bytes_do_not_depend_on_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("data.formats.json_documents.CHUNK_BYTES", 300)
    monkeypatch.setattr(data.formats.inputs, "CHUNK_ROWS", 3)
    rows = tmp_path / "rows.jsonl"
    rows.write_text((SAMPLES / f"{name}.jsonl").read_text(encoding="utf-8") + "{\n[]\n" + "\n" * 5, encoding="utf-8")
    made = []
    for workers in (1, 2, 3):
        out = tmp_path / f"{workers}.jsonl"
        counts = convert(find_input(str(rows)), out, adapter=name, workers=workers)
        made.append((counts, out.read_bytes(), out.with_suffix(".bad.jsonl").read_bytes()))
    assert made[0] == made[1] == made[2] and made[0][0]["bad"] == 2


# --- licences, in a command and in a mixture ---


def test_commercial_refuses_sources_and_drops_rows_by_what_travels_with_them(run: Run, tmp_path: Path) -> None:
    # One row of chats.jsonl came from Alpaca, which its own licence and source say.
    code, out, _ = run("convert", SAMPLES / "chats.jsonl", "--licence", "commercial", "--out", tmp_path / "c.jsonl")
    assert code == 0 and "dropped: not commercial: licence cc-by-nc-4.0" in out
    assert [chat["id"] for chat in chats_in(tmp_path / "c.jsonl")] == ["c1", "c3", "c5"]
    for name, reason in [
        ("slim_orca", "models of OpenAI wrote its answers"),
        ("shp", "its publisher states no licence"),
    ]:
        code, _, err = run(
            "convert", SAMPLES / f"{name}.jsonl", "--adapter", name, "--licence", "commercial", "--out", tmp_path / "x"
        )
        assert code == 2 and reason in err


def mixture(tmp_path: Path, *sources: dict[str, Any], **config: Any) -> dict[str, Any]:
    (tmp_path / "mix.yaml").write_text(json.dumps({"sources": list(sources), "validation_share": 0.0, **config}))
    return build(read_config(tmp_path / "mix.yaml", BuildConfig), out=tmp_path / "set", name="mix.yaml")


def test_a_mixture_names_sources_in_the_same_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets  # noqa: PLC0415 - only this test needs it

    def load_dataset(name: str, subset: str | None, **_: Any) -> Any:
        assert (name, subset) == ("databricks/databricks-dolly-15k", None)
        return datasets.Dataset.from_list(
            [{"instruction": "q", "context": "", "response": "a", "category": "c"}]
        ).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    (tmp_path / "folder").mkdir()
    write_rows(tmp_path / "folder" / "a.jsonl", qa(1))
    write_rows(tmp_path / "folder" / "b.jsonl", qa(2))
    (tmp_path / "map.yaml").write_text("prompt: q\nresponse: a\n")
    manifest = mixture(
        tmp_path,
        {"path": str(tmp_path / "folder")},
        {"path": "databricks/databricks-dolly-15k", "revision": "main"},
        {"path": str(write_rows(tmp_path / "own.jsonl", {"q": "x", "a": "y"})), "adapter": str(tmp_path / "map.yaml")},
    )
    assert [(s["adapter"], s["kept"], len(s["files"])) for s in manifest["sources"]] == [
        ("alpaca", 2, 2),
        ("dolly_15k", 1, 0),
        ("map", 1, 1),
    ]
    assert manifest["sources"][1]["hub"][0] == {
        "id": "databricks/databricks-dolly-15k",
        "revision": "main",
        "subset": None,
        "split": None,
    }


def test_a_mixture_can_refuse_what_is_not_commercial(tmp_path: Path) -> None:
    chats = {"path": str(SAMPLES / "chats.jsonl")}
    manifest = mixture(tmp_path, chats, licence="commercial")
    assert manifest["sources"][0]["dropped"] == {"not commercial: licence cc-by-nc-4.0": 1}
    assert mixture(tmp_path, chats)["sources"][0]["kept"] == lines_of("chats")
    alpaca = {"path": str(SAMPLES / "alpaca_52k.jsonl"), "adapter": "alpaca_52k"}
    with pytest.raises(UserError, match=r"mix\.yaml: sources\.1: `licence: commercial` refuses alpaca_52k"):
        mixture(tmp_path, chats, alpaca, licence="commercial")
