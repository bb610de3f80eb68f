"""Files are whole or not there, one command at a time writes them, and a full disk is one line and exit 2."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from core.errors import UserError
from core.files import Lock, Taken, claimed, claimed_folder, whole_file, whole_result, write_whole
from support.commands import Run
from support.curation_rows import chat, trajectory, write_rows
from support.paths import ROOT


def names(folder: Path) -> list[str]:
    """All files below a folder, hidden ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file grows beyond `size` bytes, as on a disk that is full; the system says so in the same way to all libraries."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_result_is_there_with_all_its_files_or_not_at_all(tmp_path: Path) -> None:
    out, counts, bad = (tmp_path / name for name in ("rows.jsonl", "rows.counts.json", "rows.bad.jsonl"))
    with whole_result(out) as result:
        result.write(out, "1\n")
        result.write(counts, "one")
        result.write(bad, "one")
    with pytest.raises(KeyError), whole_result(out) as result:
        result.write(out, "2\n")
        result.write(counts, "two")
        raise KeyError
    assert [path.read_text() for path in (out, counts, bad)] == ["1\n", "one", "one"]
    with whole_result(out) as result:
        result.write(out, "3\n")
        result.remove(bad)
        result.write(counts, "three")
    assert names(tmp_path) == ["rows.counts.json", "rows.jsonl"]
    assert (out.read_text(), counts.read_text()) == ("3\n", "three")


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    write_whole(out, "old")
    with pytest.raises(OSError, match="File too large") as raised, files_of_at_most(1000), whole_file(out) as file:
        file.write(b"x" * 100_000)
    assert raised.value.filename == str(out)
    assert (names(tmp_path), out.read_text()) == (["rows.jsonl"], "old")


def test_a_link_stays_a_link_and_a_pipe_is_written_at_once(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    link = tmp_path / "link.jsonl"
    link.symlink_to(tmp_path / "other" / "보고서.jsonl")
    write_whole(link, "new")
    assert link.is_symlink() and (tmp_path / "other" / "보고서.jsonl").read_text() == "new"
    with pytest.raises(OSError, match="No space left"):
        write_whole(Path("/dev/full"), "new")
    assert Path("/dev/full").is_char_device()


def test_a_name_may_be_as_long_as_the_system_permits(tmp_path: Path) -> None:
    out = tmp_path / ("보" * 83 + ".jsonl")  # 255 bytes
    write_whole(out, "new")
    assert names(tmp_path) == [out.name]


def test_what_a_killed_command_left_goes_away(tmp_path: Path) -> None:
    for name in (".rows.jsonl.123-abcd.partial", ".other.jsonl.123-abcd.partial"):
        (tmp_path / name).write_text("half")
    write_whole(tmp_path / "rows.jsonl", "new")
    assert names(tmp_path) == [".other.jsonl.123-abcd.partial", "rows.jsonl"]


HOLD = """
import sys, time
from pathlib import Path
from core.files import claimed, claimed_folder
claim = claimed_folder if sys.argv[1] == "folder" else claimed
with claim(Path(sys.argv[2])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_second_command_is_refused_with_the_name_of_the_first(kind: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    claim = claimed_folder if kind == "folder" else claimed
    command = [sys.executable, "-c", HOLD, kind, str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with (
            pytest.raises(UserError, match=rf"out: is being written by process {other.pid} on .*-c {kind} "),
            claim(out),
        ):
            pass
        other.kill()  # in whatever way it ends, the system takes its lock back
        other.wait()
        with claim(out), claim(out):
            pass
    assert names(tmp_path) == []


def test_a_lock_is_one_whoever_takes_it_first(tmp_path: Path) -> None:
    """Also where the file of a released lock goes away while another process waits for it."""
    script = (
        "import sys, time, random\nfrom pathlib import Path\nfrom core.files import Lock, Taken\n"
        "lock, inside = Path(sys.argv[1]), Path(sys.argv[2])\ntaken = 0\n"
        "print('ready', flush=True)\nsys.stdin.readline()\n"
        "while taken < 400:\n"
        "    try:\n        held = Lock(lock)\n    except Taken:\n        continue\n"
        "    inside.mkdir()\n    inside.rmdir()\n    held.release()\n    taken += 1\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / ".lock"), str(tmp_path / "inside")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    several = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    for each in several:
        assert each.stdout and each.stdout.readline() == "ready\n"
    for each in several:
        assert each.stdin and each.stdin.write("\n")
        each.stdin.flush()
    for each in several:
        each.communicate()
    assert [each.returncode for each in several] == [0, 0]


# ------------------------------------------------------------------------------------------------ commands


ROWS = [
    chat(
        ("user", f"{n}번 파일을 읽어 주세요. " + "조금 더 긴 문장입니다. " * 40),
        ("assistant", f"{n}줄입니다."),
        id=f"r{n}",
    )
    for n in range(40)
]
RECORDS = [
    trajectory(f"Read file {n}. " + "And so on. " * 60, ("read", {"path": f"{n}.txt"}, "text"), id=f"t{n}",
               metadata={"licence": "CC0-1.0", "source": "tests"})
    for n in range(40)
]  # fmt: skip


@pytest.fixture
def commands(tmp_path: Path) -> dict[str, list[Any]]:
    """Each command of `python -m data` that writes, with an output that is `out/...`."""
    rows = write_rows(tmp_path / "rows.jsonl", ROWS)
    records = write_rows(tmp_path / "records.jsonl", RECORDS)
    config = tmp_path / "build.yaml"
    config.write_text(json.dumps({"sources": [{"adapter": "chats", "path": str(rows)}], "validation_share": 0.2}))
    out = tmp_path / "out"
    return {
        "schema": ["schema", "--out", out / "schema.json"],
        "adapters": ["adapters", "--markdown", "--out", out / "adapters.md"],
        "convert": ["convert", rows, "--adapter", "chats", "--out", out / "rows.jsonl"],
        "export": ["export", rows, "--format", "openai", "--out", out / "openai.jsonl"],
        "redact": ["redact", rows, "--out", out / "redacted.jsonl"],
        "validate": ["validate", records, "--out", out / "good.jsonl"],
        "score": ["score", records, "--out", out / "scores.jsonl"],
        "build": ["build", "--config", config, "--out", out / "set"],
        "curate": ["curate", "dedup", rows, "--out", out / "curated"],
        "report": ["curate", "report", rows, "--out", out / "report"],
        "release": ["release", "build", "--version", "1.0.0", "--input", records, "--out", out / "1.0.0"],
    }


WRITING = [
    "schema",
    "adapters",
    "convert",
    "export",
    "redact",
    "validate",
    "score",
    "build",
    "curate",
    "report",
    "release",
]


@pytest.mark.parametrize("name", WRITING)
def test_a_full_disk_is_one_line_exit_2_and_nothing_half(
    name: str, commands: dict[str, list[Any]], run: Run, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for size in (0, 1000, 6000):
        with files_of_at_most(size):
            code, _, err = run(*commands[name])
        assert code == 2, (size, err)
        assert err.startswith("error: ") and err.count("\n") == 1
        assert str(tmp_path) in err or "database" in err
        # what is begun is marked, so that the next call knows that it was broken off
        assert not [each for each in names(out) if ".work/" not in each and not each.endswith(".stage.json")], size
        assert not [each for each in names(out) if each.endswith((".partial", ".lock"))], size
    code, _, err = run(*commands[name])
    assert code == 0, err
    before = {each: (out / each).read_bytes() for each in names(out)}
    assert before and not any(".work/" in each for each in before)
    if name != "release":  # which refuses a folder that is there
        with files_of_at_most(1000):
            again = ["filter" if part in ("dedup", "report") else part for part in commands[name]]  # not done already
            assert run(*again)[0] == 2
        assert {each: (out / each).read_bytes() for each in names(out) if ".work/" not in each} == before


def test_a_folder_where_a_file_is_meant_and_a_file_where_a_folder_is(
    commands: dict[str, list[Any]], run: Run, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    for name in WRITING:
        *words, target = commands[name]
        is_folder = name in ("build", "curate", "report", "release")
        wrong = [tmp_path / "file"] if is_folder else [tmp_path, tmp_path / "file" / "inside.jsonl"]
        for place in wrong:
            code, _, err = run(*words, place)
            assert (code, err.count("\n")) == (2, 1), (name, err)
        assert target.name and (tmp_path / "file").read_text() == "mine"


def test_output_that_cannot_be_printed_is_one_line_and_exit_2(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "data", "schema"], stdout=full, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (2, "error: No space left on device\n")


def test_two_commands_into_one_file_never_mix(tmp_path: Path) -> None:
    """Whoever comes second is refused or comes after the first; rows, counts and bad rows are of the same command."""
    sources = {}
    for name, bad in (("one", 3), ("two", 0)):
        rows = [chat(("user", f"{name} {n}"), ("assistant", "Fine."), id=f"{name}{n}") for n in range(3000)]
        sources[name] = write_rows(tmp_path / f"{name}.jsonl", [*rows, *["no JSON"] * bad])
    out = tmp_path / "out" / "rows.jsonl"
    for turn in range(2):
        running = []
        for source in sources.values():
            command = [sys.executable, "-m", "data", "convert", str(source), "--adapter", "chats", "--out", str(out)]
            running.append(
                subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                    env={**os.environ, "PYTHONPATH": str(ROOT)},
                )
            )  # fmt: skip
            time.sleep(0.15 * turn)
        ended = [(each.communicate()[1], each.returncode) for each in running]
        assert {code for _, code in ended} <= {0, 2} and any(code == 0 for _, code in ended)
        assert all("is being written by process" in err for err, code in ended if code == 2)
        ids = [json.loads(line)["id"] for line in out.read_text().splitlines()]
        name = ids[0][:3]
        assert ids == [f"{name}{n}" for n in range(3000)]
        counts = json.loads(out.with_suffix(".counts.json").read_text())
        assert counts["input"] == str(sources[name]) and counts["bad"] == (3 if name == "one" else 0)
        assert out.with_suffix(".bad.jsonl").exists() == (name == "one")


def test_a_lock_is_taken_where_it_can_be(tmp_path: Path) -> None:
    lock = Lock(tmp_path / ".lock")
    assert lock.is_held and str(os.getpid()) in (tmp_path / ".lock").read_text()
    lock.release()
    assert issubclass(Taken, Exception) and names(tmp_path) == []
