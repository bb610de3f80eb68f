"""`python -m data validate`: every way in which a line breaks has its code, and nothing else is lost."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.contribution.codes import codes, explain_all
from data.contribution.validate import Checker, LineLimits
from support.commands import Run
from support.paths import ROOT, SAMPLES
from support.record_samples import action, record, with_action, with_metadata

GOOD = with_metadata(licence="CC-BY-4.0")


def as_line(row: Any) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode()


def named(name: str, **changes: Any) -> dict[str, Any]:
    return {**GOOD, "id": name, **changes}


def codes_of(path: Path, limits: LineLimits | None = None) -> list[list[str]]:
    """The codes of each line of a file."""
    checker = Checker(limits or LineLimits())
    try:
        return [[problem.code for problem in line.problems] for line in checker.check_file(path)]
    finally:
        checker.close()


def write(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "기여.jsonl"
    path.write_bytes(content)
    return path


def future() -> str:
    return (datetime.now(UTC) + timedelta(days=3)).isoformat()


A, B = as_line(named("a")), as_line(named("b"))
SECOND = action("read_file", {"path": "a"}, start_time="2026-11-21T08:00:00Z", end_time="2026-11-21T08:00:01Z")

# What stands on the second line of three, between two good ones, and what is said about it.
BROKEN_LINES: list[tuple[str, bytes]] = [
    ("E103", b"\xef\xbb\xbf" + A),
    ("E104", A + b"\r"),
    ("E105", as_line(named("a")).replace(b"files", "파일".encode("cp949"))),
    ("E106", A.replace(b"hello", b"he\0llo")),
    ("E112", b"<<<<<<< HEAD"),
    ("E112", b"======="),
    ("E112", b">>>>>>> other branch"),
    ("E201", b"{'id': 'a'}"),
    ("E201", b"id,category,tool"),
    ("E201", A[:-1]),
    ("E202", A.replace(b'"hello"', b"NaN")),
    ("E202", A.replace(b'"hello"', b"-Infinity")),
    ("E203", A.replace(b'"tool": "files"', b'"tool": "files", "tool": "x"')),
    ("E204", A.replace(b"hello", b"\\ud83d")),
    ("E205", A.replace(b'"hello"', b"[" * 80 + b"]" * 80)),
    ("E205", b"[" * 200_000),
    ("E206", A.replace(b'"hello"', b"1e999")),
    ("E206", A.replace(b'"hello"', b"12345678901234567890123")),
    ("E206", A.replace(b'"hello"', b"9" * 5000)),
    ("E207", A + A),
    ("E207", A + b","),
    ("E208", b"[1, 2]"),
    ("E208", b'"text"'),
    ("E208", b"null"),
    ("E210", A.replace(b"hello", b"he\tllo")),
    ("E301", as_line({key: value for key, value in named("a").items() if key != "tool"})),
    ("E302", as_line(named("a", catgory="web"))),
    ("E303", as_line(named("a", action_sequence={}))),
    ("E303", as_line(named("a", environment="files"))),
    ("E304", as_line(named("a", category="fil-ops"))),
    ("E304", as_line(named("a", outcome="성곡"))),
    ("E304", as_line(named("a", id=""))),
    ("E305", as_line(named("a", timestamp="2026-11-21T09:00:00"))),
    ("E305", as_line(named("a", timestamp=1763715600))),
    ("E306", as_line(named("a", id=0))),
    ("E306", as_line({**with_action(turn="0"), "id": "a"})),
    ("E308", as_line({"messages": [{"role": "user", "content": "hi"}]})),
    ("E401", as_line({**with_action(end_time="2026-11-21T08:59:00Z"), "id": "a"})),
    ("E402", as_line(named("a", action_sequence=[*GOOD["action_sequence"], SECOND]))),
    ("E403", as_line(named("a", timestamp="1970-01-01T00:00:00Z"))),
    ("E403", as_line(named("a", timestamp=future()))),
    ("E404", as_line({**with_metadata(advice=[{"step": 9, "command": None}]), "id": "a"})),
    ("E404", as_line({**with_metadata(advice=[{"step": 1, "command": None}] * 2), "id": "a"})),
    ("E501", as_line(named("first"))),
]


@pytest.mark.parametrize(("code", "line"), BROKEN_LINES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_broken_line_has_its_code_and_its_neighbours_go_on(run: Run, tmp_path: Path, code: str, line: bytes) -> None:
    first, last = as_line(named("first")), as_line(named("last"))
    path = write(tmp_path, b"\n".join([first, line, last, b""]))
    exit_code, out, err = run("validate", path, "--out", tmp_path / "good.jsonl")
    assert exit_code == 1 and not err
    assert out.startswith(f"{path}:2:{len(first) + 1}: {code} ")
    assert "2 good records, 1 bad lines" in out
    assert (tmp_path / "good.jsonl").read_bytes() == first + b"\n" + last + b"\n"
    (row,) = map(json.loads, (tmp_path / "good.quarantine.jsonl").read_text(encoding="utf-8").splitlines())
    assert (row["path"], row["line"], row["byte_offset"], row["code"]) == (str(path), 2, len(first) + 1, code)
    assert row["bytes"] == len(line) + 1 and row["reason"] and "\n" not in row["reason"]
    assert path.read_bytes()[row["byte_offset"] :].startswith(line)


BROKEN_FILES: list[tuple[str, bytes]] = [
    ("E101", b"\x1f\x8b\x08\0\0"),
    ("E101", b"PAR1\x15\x04"),
    ("E102", A.decode().encode("utf-16")),
    ("E102", A.decode().encode("utf-16-le")),
    ("E102", A.decode().encode("utf-32")),
    ("E110", b""),
    ("E110", b"\n  \n" * 4000),
    ("E111", b"version https://git-lfs.github.com/spec/v1\noid sha256:12\n"),
    ("E209", b"[\n" + A + b",\n" + B + b"\n]\n"),
    ("E209", b"[" + A + b"," + B + b"]"),
    ("E209", json.dumps(GOOD, indent=2).encode()),
]


@pytest.mark.parametrize(("code", "content"), BROKEN_FILES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_broken_file_is_one_problem_and_other_files_go_on(
    run: Run, tmp_path: Path, code: str, content: bytes
) -> None:
    path = write(tmp_path, content)
    exit_code, out, _ = run("validate", path, SAMPLES / "trajectories.jsonl")
    assert exit_code == 1
    assert [line.split()[1] for line in out.splitlines() if line.startswith(f"{path}:1:0: E")] == [code]
    assert "3 good records, 1 bad lines" in out


def test_a_cut_file_is_told_from_a_broken_line(tmp_path: Path) -> None:
    assert codes_of(write(tmp_path, A + b"\n" + B[:-40])) == [[], ["E108"]]
    assert codes_of(write(tmp_path, A + b"\n" + B[:-40] + b"\n")) == [[], ["E201"]]
    assert codes_of(write(tmp_path, A + b"\n" + B)) == [[], ["W602"]]


def test_a_line_at_the_limit_passes_and_one_byte_more_does_not(tmp_path: Path) -> None:
    limits = LineLimits(line_bytes=len(A))
    longer = as_line(named("aa"))
    assert codes_of(write(tmp_path, A + b"\n" + longer + b"\n" + B + b"\n"), limits) == [[], ["E107"], []]
    assert codes_of(write(tmp_path, longer), limits) == [["E107"]]
    assert codes_of(write(tmp_path, A), limits) == [["W602"]]


def test_a_huge_line_is_never_loaded(tmp_path: Path) -> None:
    """A line of 300 MB, as a process of its own, so that its memory can be read."""
    path = tmp_path / "huge.jsonl"
    with open(path, "wb") as file:
        file.write(A + b'\n{"x": "')
        for _ in range(300):
            file.write(b"x" * 2**20)
        file.write(b'"}\n' + B + b"\n")
    program = (
        "import resource, sys; from pathlib import Path; from data.contribution.validate import Checker\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"lines = list(Checker().check_file(Path({str(path)!r})))\n"
        "grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before\n"
        "print(grown, *(p.code for line in lines for p in line.problems), *(line.size_bytes for line in lines))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    grown_kib, *rest = done.stdout.split()
    assert rest == ["E107", str(len(A) + 1), str(300 * 2**20 + 10), str(len(B) + 1)]
    assert int(grown_kib) < 64 * 1024


def test_too_many_lines_actions_and_levels(tmp_path: Path) -> None:
    lines = b"".join(as_line(named(str(number))) + b"\n" for number in range(5))
    assert codes_of(write(tmp_path, lines), LineLimits(records=3)) == [[], [], [], ["E109"]]
    assert codes_of(write(tmp_path, A), LineLimits(actions=1)) == [["W602", "E307"]]
    deep = as_line(with_metadata(licence="MIT", note=[[[1]]]))
    assert codes_of(write(tmp_path, deep + b"\n"), LineLimits(depth=8)) == [[]]
    assert codes_of(write(tmp_path, deep + b"\n"), LineLimits(depth=4)) == [["E205"]]


def test_duplicate_ids_name_both_lines_across_files(run: Run, tmp_path: Path) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    one.write_bytes(b"\n" + A + b"\n")
    two.write_bytes(B + b"\n" + A + b"\n")
    code, out, _ = run("validate", one, two)
    assert code == 1 and f"{two}:2:{len(B) + 1}: E501 id 'a' stands already at {one}:2" in out


@given(names=st.lists(st.sampled_from(["a", "b", "c", "가", "0", "00"]), max_size=12))
def test_an_id_is_a_duplicate_exactly_when_it_stood_before(names: list[str]) -> None:
    checker = Checker()
    places = [checker._ids.first_place(name, "f", number) for number, name in enumerate(names, start=1)]
    checker.close()
    assert places == [
        None if names.index(name) == number else f"f:{names.index(name) + 1}" for number, name in enumerate(names)
    ]


def test_types_that_drift_from_line_to_line(tmp_path: Path) -> None:
    rows = [
        named("a", metadata={**GOOD["metadata"], "seed": "7", "share": 1}),
        named("b", metadata={**GOOD["metadata"], "seed": None, "share": 0.5}),
        named("c", metadata={**GOOD["metadata"], "seed": 7}),
        named("d", environment={"name": "e", "details": {"os": "linux"}}),
        named("e", environment={"name": "e", "details": {"os": True}}),
    ]
    path = write(tmp_path, b"".join(as_line(row) + b"\n" for row in rows))
    assert codes_of(path) == [[], [], ["E306"], [], ["E306"]]
    problem = next(p for line in Checker().check_file(path) for p in line.problems)
    assert problem.message == f"field 'metadata.seed' is a number here and text at {path}:1"


def test_an_argument_may_drift_only_where_the_call_failed(tmp_path: Path) -> None:
    def calls(name: str, count: object, error: str | None) -> dict[str, Any]:
        return named(name, action_sequence=[action("read_file", {"count": count}, error=error)], outcome="partial")

    rows = [calls("a", 3, None), calls("b", "3", "count is a number"), calls("c", "3", None)]
    assert codes_of(write(tmp_path, b"".join(as_line(row) + b"\n" for row in rows))) == [[], [], ["W609"]]


ADVICE: list[tuple[str, dict[str, Any]]] = [
    ("W603", named("a", tool="kim@example.com")),
    ("W604", named("a", action_sequence=GOOD["action_sequence"][:1], metadata={**GOOD["metadata"], "answer": None})),
    ("W605", named("a", action_sequence=[])),
    ("W606", named("a", metadata={"licence": "MIT"})),
    ("W607", record()),
    ("W608", named("a", metadata={**GOOD["metadata"], "instuction": "x"})),
    ("W608", named("a", metadata={**GOOD["metadata"], "license": "MIT"})),
    ("W610", named("a", action_sequence=[action("read", {})])),
    ("W612", named("a", action_sequence=[action("read_file", {}, error="")])),
]


@pytest.mark.parametrize(("code", "row"), ADVICE, ids=[code for code, _ in ADVICE])
def test_advice_keeps_the_record(run: Run, tmp_path: Path, code: str, row: dict[str, Any]) -> None:
    path = write(tmp_path, as_line(row) + b"\n")
    exit_code, out, _ = run("validate", path, "--out", tmp_path / "good.jsonl")
    assert exit_code == 0 and f": {code} " in out and "1 good records, 0 bad lines" in out
    assert (tmp_path / "good.jsonl").read_bytes() == path.read_bytes()


def test_blank_lines_and_escaped_nul_are_advice(tmp_path: Path) -> None:
    nul = A.replace(b"hello", b"a\\u0000b")
    assert codes_of(write(tmp_path, nul + b"\n\n \t\n" + B + b"\n")) == [["W611"], ["W601"], ["W601"], []]


def test_parallel_calls_may_start_in_any_order(tmp_path: Path) -> None:
    early = {"start_time": "2026-11-21T08:59:59Z", "end_time": "2026-11-21T09:00:00Z"}
    pair = [action("read_file", {"path": "a"}, turn=1), action("read_file", {"path": "b"}, turn=1, **early)]
    assert codes_of(write(tmp_path, as_line(named("a", action_sequence=pair)) + b"\n")) == [[]]


def test_all_faults_of_a_line_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, b"\xef\xbb\xbf" + as_line(named("a", catgory="x", timestamp="x", outcome=3)) + b"\r\n")
    assert codes_of(path) == [["E103", "E104", "E302", "E305", "E304"]]


def test_rows_of_any_form_come_back_byte_for_byte(run: Run, tmp_path: Path) -> None:
    rows = [
        b'  {"id": "a", ' + A[12:] + b"  ",
        json.dumps(named("한글"), ensure_ascii=True).encode(),
        as_line(named("나", category="파일작업", outcome="성공")),
        as_line(named("c")).replace(b'"hello"', b"1.50"),
    ]
    path = write(tmp_path, b"\n".join(rows) + b"\n")
    assert run("validate", path, "--out", tmp_path / "good.jsonl")[0] == 0
    assert (tmp_path / "good.jsonl").read_bytes() == path.read_bytes()


@given(content=st.binary(max_size=200) | st.lists(st.sampled_from([A, B, b"", b"{", b"\xff", b"[]"])).map(b"\n".join))
def test_any_bytes_are_read_to_their_end(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "any.jsonl"
    path.write_bytes(content)
    checker = Checker()
    lines = list(checker.check_file(path))
    checker.close()
    for line in lines:
        assert line.record is None or not line.is_bad
        assert line.record is not None or line.problems
    whole = {"E101", "E102", "E110", "E111", "E209"}
    if not any(problem.code in whole for line in lines for problem in line.problems):
        assert sum(line.size_bytes for line in lines) == len(content)


def test_json_is_one_object_with_everything(run: Run) -> None:
    code, out, _ = run("validate", "--json", SAMPLES / "trajectories.jsonl", SAMPLES / "trajectories_broken.jsonl")
    result = json.loads(out)
    assert code == 1 and (result["good"], result["bad"], result["blank"]) == (4, 12, 0)
    assert [file["good"] for file in result["files"]] == [3, 1]
    assert sum(result["codes"].values()) == len(result["problems"])
    errors = [problem for problem in result["problems"] if problem["code"].startswith("E")]
    assert [problem["line"] for problem in errors] == list(range(2, 14))
    assert all(codes()[problem["code"]].name == problem["name"] for problem in result["problems"])


def test_a_windows_file_is_reported_briefly(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path, b"".join(as_line(named(str(number))) + b"\r\n" for number in range(150)))
    code, out, _ = run("validate", path, "--quarantine", tmp_path / "bad.jsonl")
    assert code == 1 and out.count(": E104 ") == 100 and f"{path}: 50 more E104 carriage-return" in out
    assert "0 good records, 150 bad lines" in out
    assert len((tmp_path / "bad.jsonl").read_text().splitlines()) == 150


def test_no_secret_of_a_bad_line_is_shown(run: Run, tmp_path: Path) -> None:
    secret, mail = "hf_" + "aB3" * 12, "kim@example.com"
    lines = [
        as_line(named("a", outcome=secret)),
        as_line(named("b", **{mail: 1})),
        b'{"id": "' + mail.encode() + b'", "key": "' + secret.encode(),
        as_line(named(mail)),
        as_line(named(mail)),
        as_line({"id": "kim\\u0040example.com"}).replace(b"\\\\", b"\\") + b"}",
    ]
    path = write(tmp_path, b"\n".join(lines) + b"\n")
    code, out, err = run("validate", path, "--quarantine", tmp_path / "bad.jsonl")
    shown = out + err + (tmp_path / "bad.jsonl").read_text(encoding="utf-8")
    assert code == 1 and "<EMAIL_1>" in shown and "<HF_TOKEN_1>" in shown
    assert secret not in shown and mail not in shown


def test_a_file_name_may_hold_any_bytes(run: Run, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff\xfe.jsonl")
    path.write_bytes(A + b"\n{\n")
    code, out, _ = run("validate", path, "--quarantine", tmp_path / "bad.jsonl")
    assert code == 1 and "\\xff\\xfe.jsonl:2:" in out
    assert "xff" in json.loads((tmp_path / "bad.jsonl").read_text())["path"]
    assert run("validate", "--json", path)[0] == 1 and run("score", path, "--out", tmp_path / "s.jsonl")[0] == 0


def test_folders_and_mistakes(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "a.jsonl").write_bytes(A + b"\n")
    (tmp_path / "in" / "b.jsonl").write_bytes(B + b"\n")
    assert "2 good records" in run("validate", tmp_path / "in")[1]
    (tmp_path / "none").mkdir()
    for arguments, message in [
        ((tmp_path / "nowhere.jsonl",), "nowhere.jsonl: cannot be read: No such file"),
        ((tmp_path / "none",), "holds no file that ends in .jsonl"),
        ((tmp_path / "in", tmp_path / "in" / "b.jsonl"), "b.jsonl is named twice"),
        ((tmp_path / "in" / "b.jsonl", "--out", tmp_path / "in" / "b.jsonl"), "is one of the inputs"),
        (("/dev/zero",), "is a device"),
        ((), "nothing to check"),
        (("--quarantin", "x", tmp_path / "in"), "--quarantine"),
        (("--explain", "E30"), "there is no code 'E30'"),
        (("--explain", "bad-tme"), "Did you mean 'bad-time'?"),
    ]:
        code, _, err = run("validate", *arguments)
        assert code == 2 and message in err and "Traceback" not in err, arguments
    assert (tmp_path / "in" / "b.jsonl").read_bytes() == B + b"\n"


def test_every_code_is_explained_and_the_page_is_the_generated_one(run: Run) -> None:
    for code, explained in codes().items():
        assert all(explained) and re.fullmatch(r"[a-z0-9-]+", explained.name)
        exit_code, out, _ = run("validate", "--explain", code)
        assert exit_code == 0 and explained.meaning in out and explained.fix in out
    page = (ROOT / "docs" / "validation-codes.md").read_text(encoding="utf-8")
    assert page == explain_all(), "run: python -m data validate --explain all > docs/validation-codes.md"


def test_every_code_is_used_and_every_used_code_is_known() -> None:
    source = (ROOT / "data" / "contribution" / "validate.py").read_text(encoding="utf-8")
    assert set(re.findall(r"\"([EW]\d{3})\"", source)) == set(codes())
    tested = {code for code, _ in [*BROKEN_LINES, *BROKEN_FILES, *ADVICE]}
    assert set(codes()) - tested == {"E107", "E108", "E109", "E307", "W601", "W602", "W609", "W611"}  # tested by name
