"""The run as a whole: counts add up, lines stay as they are, and neither workers, shards nor executors change a byte."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import data.__main__
from core.config import read_config
from core.errors import UserError
from data.curation.pipeline import CurateConfig, curate
from data.curation.shards import plan_shards, read_lines
from support.commands import Run
from support.curation_rows import chat, messages_of, pair, read_rows, run_steps, trajectory, write_rows

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ("curated.jsonl", "dropped.jsonl", "clusters.jsonl", "report.json", "report.md", "report.png")


def mixed_rows(count: int = 400, seed: int = 1) -> list[Any]:
    """Rows of all kinds and both languages, with copies, near copies, refusals, leaks and broken lines among them."""
    randomness = random.Random(seed)
    words = [f"word{number}" for number in range(300)] + [f"낱말{number}" for number in range(100)]
    rows: list[Any] = []
    for number in range(count):
        text = randomness.choices(words, k=60)
        kind = randomness.random()
        if kind < 0.1 and number:
            rows.append(randomness.choice(rows))
        elif kind < 0.2:
            rows.append(
                chat(
                    ("user", " ".join(text)), ("assistant", "I'm sorry, but I can't assist with that."), id=f"r{number}"
                )
            )
        elif kind < 0.25:
            rows.append(randomness.choice(['{"id": 1', "[]", '{"messages": []}', "", '{"a": NaN}']))
        elif kind < 0.5:
            rows.append(
                pair([("user", " ".join(text))], [("assistant", "Yes.")], [("assistant", "No.")], id=f"p{number}")
            )
        elif kind < 0.75:
            rows.append(trajectory(" ".join(text), ("read", {"path": f"{number}.txt"}, {"n": number}), id=f"t{number}"))
        else:
            rows.append(chat(("user", " ".join(text)), ("assistant", " ".join(reversed(text))), id=f"c{number}"))
            text[5] = "changed"
            rows.append(chat(("user", " ".join(text)), ("assistant", " ".join(reversed(text))), id=f"n{number}"))
    return rows


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl", mixed_rows())


def config_for(source: Path, tmp_path: Path, **changes: Any) -> CurateConfig:
    leak = write_rows(
        tmp_path / "test.jsonl", [json.loads(line) for line in source.read_text().splitlines() if '"c' in line][:3]
    )
    steps = [
        {"step": "filter"},
        {"step": "exact"},
        {"step": "near"},
        {"step": "decontaminate", "against": [str(leak)]},
        {"step": "sample", "by": ["kind"], "cap": 40},
        {"step": "report"},
    ]
    return CurateConfig.model_validate({"inputs": [str(source)], "steps": steps, **changes})


def small_shards(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    import data.curation.pipeline as pipeline  # noqa: PLC0415 - patched here alone

    monkeypatch.setattr(pipeline, "plan_shards", lambda paths, _: plan_shards(paths, size))


def test_counts_add_up_and_no_line_is_lost_or_changed(tmp_path: Path, source: Path) -> None:
    manifest = curate(config_for(source, tmp_path), out=tmp_path / "out")
    assert manifest is not None
    lines = [line for line in source.read_bytes().split(b"\n") if line.strip()]
    assert manifest["read"] == len(lines)
    assert manifest["read"] == manifest["kept"] + sum(sum(reasons.values()) for reasons in manifest["dropped"].values())
    kept = (tmp_path / "out/curated.jsonl").read_bytes().splitlines()
    dropped = read_rows(tmp_path / "out/dropped.jsonl")
    assert (len(kept), len(dropped)) == (manifest["kept"], len(lines) - manifest["kept"])
    numbered = source.read_bytes().split(b"\n")
    for entry in dropped:
        line = numbered[entry["line"] - 1].decode()
        assert entry["unread"] == line if "unread" in entry else entry["row"] == json.loads(line)
    rest = {entry["line"] - 1 for entry in dropped}
    assert kept == [line for at, line in enumerate(numbered) if line.strip() and at not in rest]
    assert all(manifest["dropped"][step] for step in ("read", "filter", "exact", "near", "decontaminate", "sample"))


def test_neither_workers_nor_shards_change_a_byte(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curate(config_for(source, tmp_path), out=tmp_path / "one")
    small_shards(monkeypatch, 30_000)
    curate(config_for(source, tmp_path), out=tmp_path / "two", workers=2)
    for name in (*RESULTS, "manifest.json"):
        first = (tmp_path / "one" / name).read_bytes()
        assert first
        assert first == (tmp_path / "two" / name).read_bytes(), name


def test_an_executor_of_datatrove_gives_the_same_bytes_and_its_markers(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("datatrove")
    small_shards(monkeypatch, 60_000)
    steps = [{"step": "exact"}, {"step": "near", "bands": 3}]
    config = {"inputs": [str(source)], "steps": steps}
    curate(CurateConfig.model_validate(config), out=tmp_path / "one")
    cluster = CurateConfig.model_validate({**config, "cluster": {"executor": "local", "workers": 1}})
    monkeypatch.setattr("data.curation.pipeline.shutil.rmtree", lambda *_, **__: None)
    curate(cluster, out=tmp_path / "cluster")
    for name in ("curated.jsonl", "dropped.jsonl", "clusters.jsonl", "manifest.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "cluster" / name).read_bytes(), name
    markers = sorted(path.name for path in (tmp_path / "cluster/.work/logs/near-bands/completions").iterdir())
    assert markers == ["00000", "00001", "00002"]


def test_a_run_that_broke_off_goes_on_and_a_finished_one_is_not_repeated(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import data.curation.shards as shards  # noqa: PLC0415 - patched here alone

    small_shards(monkeypatch, 50_000)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    curate(config_for(source, tmp_path), out=whole)
    ran: list[str] = []
    original = shards.run_task

    def run_some(work: Any, stage: Any, task: int) -> float:
        if stage.name == "near-bands" and task == 3 and not ran.count("stopped"):
            ran.append("stopped")
            raise KeyboardInterrupt
        seconds = original(work, stage, task)
        if seconds:
            ran.append(f"{stage.name} {task}")
        return seconds

    monkeypatch.setattr(shards, "run_task", run_some)
    with pytest.raises(KeyboardInterrupt):
        curate(config_for(source, tmp_path), out=broken)
    assert not (broken / "manifest.json").exists()
    done_before = set(ran)
    curate(config_for(source, tmp_path), out=broken)
    again = ran[ran.index("stopped") + 1 :]
    assert not set(again) & done_before
    assert again[0] == "near-bands 3"
    for name in RESULTS:
        assert (whole / name).read_bytes() == (broken / name).read_bytes()
    ran.clear()
    manifest = curate(config_for(source, tmp_path), out=broken)
    assert manifest is not None
    assert manifest["reused"]
    assert not ran


def test_other_inputs_or_options_start_anew(tmp_path: Path, source: Path) -> None:
    first = curate(config_for(source, tmp_path), out=tmp_path / "out")
    with open(source, "a", encoding="utf-8") as file:
        file.write(json.dumps(chat(("user", "One more?"), ("assistant", "Yes, one more."))) + "\n")
    second = curate(config_for(source, tmp_path), out=tmp_path / "out")
    assert first is not None
    assert second is not None
    assert "reused" not in second
    assert second["read"] == first["read"] + 1
    edited = tmp_path / "out/curated.jsonl"
    edited.write_bytes(edited.read_bytes()[:-1])
    third = curate(config_for(source, tmp_path), out=tmp_path / "out")
    assert third is not None
    assert "reused" not in third
    for name in ("dropped.jsonl", "clusters.jsonl"):
        whole = (tmp_path / "out" / name).read_bytes()
        (tmp_path / "out" / name).unlink()
        fourth = curate(config_for(source, tmp_path), out=tmp_path / "out")
        assert fourth is not None and "reused" not in fourth
        assert (tmp_path / "out" / name).read_bytes() == whole


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(st.just(b""), st.just(b"  "), st.binary(max_size=40).map(lambda b: b.replace(b"\n", b"x"))),
        max_size=30,
    ),
    st.integers(1, 50),
    st.booleans(),
)
def test_shards_hold_each_line_once_wherever_they_are_cut(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], size: int, ends: bool
) -> None:
    file = tmp_path_factory.mktemp("shards") / "a.jsonl"
    text = b"\n".join(lines) + (b"\n" if ends else b"")
    file.write_bytes(text)
    read = [line for shard in plan_shards([file], size) for _, line in read_lines(shard)]
    expected = text.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    expected = expected[:-1] if expected[-1] == b"" else expected
    assert read == [line.rstrip() for line in expected]


def test_packed_files_give_the_same_rows(tmp_path: Path) -> None:
    import pyarrow  # noqa: PLC0415 - writes the one packed format that Python itself does not

    rows = "".join(json.dumps(chat(("user", f"Hi {n}"), ("assistant", f"Yo {n}"), id=str(n))) + "\n" for n in range(20))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(rows.encode()))
    with pyarrow.output_stream(str(tmp_path / "c.jsonl.zst"), compression="zstd") as file:
        file.write(rows.encode())
    config = CurateConfig.model_validate({"inputs": [str(tmp_path / "*.jsonl.*")], "steps": [{"step": "exact"}]})
    manifest = curate(config, out=tmp_path / "out")
    assert manifest is not None
    assert (manifest["kept"], manifest["dropped"]["exact"]) == (20, {"exact duplicate": 20})
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(rows.encode())[:-30])
    with pytest.raises(UserError, match=r"b\.jsonl\.gz: cannot be read"):
        curate(config, out=tmp_path / "out")


def test_broken_lines_are_dropped_with_their_reason(tmp_path: Path) -> None:
    good = chat(("user", "Hi"), ("assistant", "Hello there."))
    source = tmp_path / "rows.jsonl"
    lines = [
        json.dumps(good).encode(),
        b'{"messages": 1',
        b"\xff\xfe",
        b'{"id": "x", "id": "y"}',
        b"7",
        b'{"text": "x"}',
    ]
    lines.append(json.dumps({**good, "mesages": []}).encode())
    source.write_bytes(b"\n".join(lines))
    config = CurateConfig.model_validate({"inputs": [str(source)], "steps": [{"step": "exact"}]})
    manifest = curate(config, out=tmp_path / "out")
    assert manifest is not None
    assert manifest["dropped"]["read"] == {"unreadable": 6}
    texts = [entry["text"] for entry in read_rows(tmp_path / "out/dropped.jsonl")]
    for text, expected in zip(
        texts, ("", "not UTF-8", "stands twice", "got int", "neither a chat", "Did you mean"), strict=True
    ):
        assert expected in text


# --- sampling and report -----------------------------------------------------------------------------------------


def test_samples_are_capped_or_balanced_and_do_not_depend_on_order(tmp_path: Path) -> None:
    def made(language: str, number: int) -> dict[str, Any]:
        return trajectory(
            f"Task {number} {language}",
            ("read", {"n": number}, "x"),
            id=f"{language}{number}",
            metadata={"language": language},
        )

    rows = [made("en", n) for n in range(60)] + [made("ko", n) for n in range(25)] + [made("de", n) for n in range(5)]

    def counts(**options: Any) -> dict[str, int]:
        kept, dropped, _ = run_steps(tmp_path, rows, {"step": "sample", "by": ["language"], **options})
        assert len(kept) + len(dropped) == 90
        languages = [row["metadata"]["language"] for row in kept]
        return {name: languages.count(name) for name in ("en", "ko", "de")}

    assert counts(cap=20) == {"en": 20, "ko": 20, "de": 5}
    assert counts(cap="smallest") == {"en": 5, "ko": 5, "de": 5}
    assert counts(total=45) == {"en": 20, "ko": 20, "de": 5}
    assert counts(total=7) == {"en": 3, "ko": 2, "de": 2}
    assert counts(total=1000) == {"en": 60, "ko": 25, "de": 5}
    chosen, _, _ = run_steps(tmp_path, rows, {"step": "sample", "cap": 30})
    turned, _, _ = run_steps(tmp_path, rows[::-1], {"step": "sample", "cap": 30})
    assert [row["id"] for row in chosen] == [row["id"] for row in turned[::-1]]
    other, _, _ = run_steps(tmp_path, rows, {"step": "sample", "cap": 30, "seed": 8})
    assert other != chosen


def test_the_report_counts_what_is_kept(tmp_path: Path) -> None:
    rows = [
        trajectory(
            "Read the file and tell me what it says.", ("read", {}, "x"), id="1", metadata={"task": {"tier": 2}}
        ),
        trajectory(
            "파일을 읽고 내용을 알려 주세요.", ("read", {}, "x"), ("read", {"a": 1}, "y"), id="2", outcome="failure"
        ),
        chat(("user", "Hi"), ("assistant", "Hello."), id="3"),
        chat(("user", "Hi"), ("assistant", "Hello."), id="4"),
    ]
    rows[1]["metadata"]["answer"] = "다 읽었습니다."
    run_steps(tmp_path, rows, {"step": "exact"}, {"step": "report"})
    report = json.loads((tmp_path / "out/report.json").read_text(encoding="utf-8"))
    assert report["rows"] == 3
    assert report["facets"]["calls"] == {"00": 1, "01": 1, "02": 1}
    assert report["facets"]["language"] == {"en": 1, "ko": 1, "und": 1}
    cells = report["category x tier x language x outcome"]
    assert {"category": "file-ops", "tier": "2", "language": "en", "outcome": "success", "rows": 1} in cells
    assert sum(cell["rows"] for cell in cells) == 3
    assert (tmp_path / "out/report.png").read_bytes().startswith(b"\x89PNG")
    assert "| file-ops | 2 | en | success | 1 |" in (tmp_path / "out/report.md").read_text(encoding="utf-8")


def test_topics_are_found_drawn_and_sampled(tmp_path: Path) -> None:
    model2vec = pytest.importorskip("model2vec")
    tokenizers = pytest.importorskip("tokenizers")
    import numpy as np  # noqa: PLC0415 - only here

    themes = {
        "weather": ["rain", "sun", "wind", "cloud"],
        "food": ["bread", "soup", "rice", "밥"],
        "travel": ["train", "bus", "ship", "배"],
    }
    words = [word for group in themes.values() for word in group]
    vocabulary = {word: at for at, word in enumerate(["[UNK]", *words])}
    vectors = np.zeros((len(vocabulary), 8), np.float32)
    for theme, group in enumerate(themes.values()):
        for place, word in enumerate(group):
            vectors[vocabulary[word], theme] = 1
            vectors[vocabulary[word], 3 + place] = 0.2
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    model2vec.StaticModel(vectors, tokenizer).save_pretrained(tmp_path / "encoder")
    randomness = random.Random(1)
    sizes = {"weather": 50, "food": 30, "travel": 10}
    rows = [
        chat(("user", " ".join(randomness.choices(themes[theme], k=6))), ("assistant", "Fine."), id=f"{theme}{n}")
        for theme, size in sizes.items()
        for n in range(size)
    ]
    options = {"topics": 3, "encoder": str(tmp_path / "encoder")}
    run_steps(tmp_path, rows, {"step": "report", **options})
    topics = json.loads((tmp_path / "out/report.json").read_text(encoding="utf-8"))["topics"]
    assert [topic["rows"] for topic in topics] == [50, 30, 10]
    for topic, theme in zip(topics, sizes, strict=True):
        assert set(topic["words"]) <= set(themes[theme])
        assert topic["examples"]
    assert (tmp_path / "out/topics.png").read_bytes().startswith(b"\x89PNG")
    kept, _, _ = run_steps(tmp_path, rows, {"step": "sample", "by": ["topic"], "cap": "smallest", **options})
    assert sorted(row["id"].rstrip("0123456789") for row in kept) == ["food"] * 10 + ["travel"] * 10 + ["weather"] * 10


# --- the command line --------------------------------------------------------------------------------------------


def call(*arguments: object) -> Any:
    return CliRunner().invoke(data.__main__.app, ["curate", *map(str, arguments)])


def test_each_step_is_a_command(tmp_path: Path, source: Path) -> None:
    test = write_rows(tmp_path / "test.jsonl", [{"question": "What is this?"}])
    commands = {
        "filter": ["--language", "en", "--language", "ko"],
        "dedup": ["--threshold", "0.7"],
        "decontaminate": ["--against", test],
        "sample": ["--by", "kind", "--cap", "5"],
        "report": [],
    }
    for name, options in commands.items():
        result = call(name, source, *options, "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
        manifest = json.loads((tmp_path / name / "manifest.json").read_text())
        assert f"{manifest['kept']} of {manifest['read']} rows kept" in result.output
    again = call("report", source, "--out", tmp_path / "report")
    assert "already done, reused" in again.output


def test_mistakes_on_the_command_line_and_in_the_config_are_told(tmp_path: Path, source: Path, run: Run) -> None:
    file = tmp_path / "curate.yaml"
    for config, expected in (
        ({"inputs": ["none.jsonl"], "steps": [{"step": "exact"}]}, "there is no file none.jsonl"),
        ({"inputs": [str(source)], "steps": [{"step": "neer"}]}, "there is no step 'neer'. Did you mean 'near'?"),
        ({"inputs": [str(source)], "steps": [{"step": "near", "treshold": 0.5}]}, "Did you mean 'threshold'?"),
        ({"inputs": [str(source)], "steps": []}, "steps"),
        ({"inputs": [str(source)], "steps": [{"step": "sample", "by": ["kind"]}]}, "give one of cap"),
        ({"inputs": [str(source), str(source)], "steps": [{"step": "exact"}]}, "is named twice"),
        ({"inputs": [str(source)], "steps": [{"step": "near", "threshold": 2}]}, "threshold"),
    ):
        file.write_text(yaml.safe_dump(config))
        result = call("--config", file, "--out", tmp_path / "out")
        assert isinstance(result.exception, UserError), expected
        assert expected in str(result.exception)
    # The last of them as a person would see it.
    code, _, told = run("curate", "--config", file, "--out", tmp_path / "out")
    assert code == 2
    assert told.startswith("error: ")
    assert "Traceback" not in told


def test_results_must_not_lie_beside_the_input(tmp_path: Path, source: Path) -> None:
    config = config_for(source, tmp_path)
    with pytest.raises(UserError, match="give the results a folder of their own"):
        curate(config, out=tmp_path)


def test_a_set_of_which_nothing_is_left_is_an_error_each_time(tmp_path: Path) -> None:
    row = chat(("user", "Hi"), ("assistant", ""))
    for _ in range(2):
        with pytest.raises(UserError, match="no row is left of 1, for these reasons:\n  1 x filter: empty turn"):
            run_steps(tmp_path, [row], {"step": "filter"})


def test_the_example_config_is_read(tmp_path: Path) -> None:
    config = read_config(ROOT / "configs/data/curate.yaml", CurateConfig)
    assert [step.step for step in config.steps]


def test_rows_are_seen_in_one_way_whatever_their_kind() -> None:
    from data.curation.rows import record_to_row, value_to_record  # noqa: PLC0415 - only here

    turns = [("user", "Read a."), ("call", "read", {"path": "a"}, "x")]
    as_chat = record_to_row(value_to_record(chat(*turns, ("assistant", "Done."))))
    as_trajectory = record_to_row(value_to_record(trajectory("Read a.", ("read", {"path": "a"}, "x"))))
    assert [m.content for m in as_chat.messages] == [m.content for m in as_trajectory.messages]
    as_pair = record_to_row(value_to_record(pair(turns, [("assistant", "Done.")], [("assistant", "No.")])))
    said = messages_of([*turns, ("assistant", "Done.")])
    assert [m.content for m in as_pair.imitated] == [m.get("content", "") for m in said]
    assert [m.content for m in as_pair.trained] == ["Done."]
