"""Releases through the command line: what is built, what is refused, what is proven, what changed."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
from huggingface_hub import DatasetCard
from hypothesis import given
from hypothesis import strategies as st
from semver import Version
from typer.testing import CliRunner

from core.errors import UserError
from data.__main__ import app
from data.release.changes import Changes, check_level, check_order, record_to_fields, text_to_version
from data.release.export import cell_to_text, csv_to_records, release_to_dataframe, row_to_record, text_to_cell
from data.release.licences import ALLOWED, licence_to_spdx
from data.release.manifest import MANIFEST, Archive, Manifest, read_manifest
from support.record_samples import record

ROOT = Path(__file__).parents[1]
Rows = list[dict[str, Any]]


def run(*arguments: object) -> tuple[int, str]:
    """Exit code and everything that was printed."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, UserError):
        return 2, str(result.exception)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def row(number: int, **changes: Any) -> dict[str, Any]:
    """A record that can be released; keys of `metadata` are given as metadata_KEY, None takes one away."""
    made = record(id=f"기록-{number:03d}")
    made["metadata"] |= {"source": "도구 연구실", "licence": "CC-BY-4.0", "language": "ko"}
    for name, value in changes.items():
        place, key = (made["metadata"], name[9:]) if name.startswith("metadata_") else (made, name)
        if value is None:
            place.pop(key, None)
        else:
            place[key] = value
    return made


def some_rows() -> Rows:
    """Six records of three categories, two of them with Korean names."""
    return [
        row(1),
        row(2, category="웹상호작용", outcome="부분"),
        row(3, category="web", outcome="failure", metadata_language="en"),
        row(4, tool="=셸|<b>", metadata_licence="mit", metadata_source="둘째 <script> | 원천"),
        row(
            5,
            category="코드실행",
            metadata_attribution=["Kim Tool", "이도구"],
            metadata_source_url="https://example.org/a",
        ),
        row(6, metadata_licence="CC0-1.0", metadata_source=None),
    ]


def write(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in rows), encoding="utf-8")
    return path


def build(folder: Path, version: str, rows: Rows, *options: object) -> tuple[int, str]:
    """Build `folder/version` of the rows."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = write(folder / f"{version}.jsonl", rows)
    return run("release", "build", "--version", version, "--input", lines, "--out", folder / version, *options)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release that tests only read."""
    folder = tmp_path_factory.mktemp("releases")
    code, out = build(folder, "1.0.0", some_rows(), "--url", "https://example.org/data", "--creator", "연구실")
    assert code == 0, out
    return folder / "1.0.0"


@pytest.fixture
def held(built: Path, tmp_path: Path) -> Path:
    """A copy of it, to be tampered with."""
    return Path(shutil.copytree(built, tmp_path / "held"))


# ---- what is built ----


def test_the_manifest_names_every_file_as_other_code_finds_it(built: Path) -> None:
    manifest = json.loads((built / MANIFEST).read_text(encoding="utf-8"))
    found = contents(built)
    archive = manifest["archive"]
    assert archive["sha256"] == hashlib.sha256(found[archive["path"]]).hexdigest()
    assert {file["path"] for file in manifest["files"]} == found.keys() - {MANIFEST, archive["path"]}
    for file in manifest["files"]:
        content = found[file["path"]]
        assert (file["bytes"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        assert file["parts"] and all(part["source"] and part["licence"] for part in file["parts"])
        if file["path"].endswith(".jsonl"):
            assert file["rows"] == content.count(b"\n") == sum(part["rows"] for part in file["parts"])
            assert file["schema_version"] == "1.0.0"
    # The announced number, computed as docs/release.md says.
    said = {
        key: value for key, value in manifest.items() if key not in ("archive", "release_sha256", "manifest_sha256")
    }
    text = json.dumps(said, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    assert manifest["release_sha256"] == hashlib.sha256(text.encode()).hexdigest()


def test_records_are_released_as_they_were_but_for_korean_names(built: Path) -> None:
    english = {"웹상호작용": "web", "코드실행": "code-execution", "부분": "partial"}
    expected = {}
    for each in some_rows():
        expected[each["id"]] = each | {key: english.get(each[key], each[key]) for key in ("category", "outcome")}
    found = {}
    for path in (built / "data").glob("*.jsonl"):
        ids = []
        for line in path.read_text(encoding="utf-8").splitlines():
            value = json.loads(line)
            assert value["category"] == path.stem
            ids.append(value["id"])
            found[value["id"]] = value
        assert ids == sorted(ids)
    assert found == expected


def test_parquet_holds_the_same_records_and_no_invented_key(built: Path) -> None:
    for path in (built / "data").glob("*.parquet"):
        rows = parquet.read_table(path).to_pylist()
        lines = path.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()
        assert [row_to_record(each) for each in rows] == [json.loads(line) for line in lines]


def test_the_same_records_make_the_same_bytes(built: Path, tmp_path: Path) -> None:
    """In any order, in any number of files, given as --input A B."""
    rows = some_rows()[::-1]
    first, second = write(tmp_path / "a.jsonl", rows[:2]), write(tmp_path / "b.jsonl", rows[2:])
    options = ("--url", "https://example.org/data", "--creator", "연구실")
    code, out = run(
        "release", "build", "--version", "1.0.0", "--input", first, second, "--out", tmp_path / "r" / "x", *options
    )
    assert code == 0, out
    assert contents(tmp_path / "r" / "x") == contents(built)


def test_a_release_is_never_changed(built: Path, held: Path) -> None:
    before = contents(held)
    code, out = run("release", "build", "--version", "2.0.0", "--input", built.parent / "1.0.0.jsonl", "--out", held)
    assert code == 2 and "never changed" in out and contents(held) == before


def test_documents_say_what_is_there_and_escape_what_records_say(built: Path) -> None:
    card = DatasetCard.load(built / "README.md")
    assert card.data.license == ["cc-by-4.0", "cc0-1.0", "mit"] and card.data.language == ["en", "ko"]
    for name in ("README.md", "ATTRIBUTION.md"):
        text = (built / name).read_text(encoding="utf-8")
        assert "<script>" not in text and "&lt;script&gt; \\| 원천" in text
    attribution = (built / "ATTRIBUTION.md").read_text(encoding="utf-8")
    for said in ("Kim Tool, 이도구", "https://example.org/a", ALLOWED["CC-BY-4.0"], "도구 연구실", "are changed"):
        assert said in attribution
    assert "| web (웹상호작용) | 0 | 1 | 1 | 2 |" in card.text
    for picture in (built / "pictures").glob("*.png"):
        content = picture.read_bytes()
        assert content.startswith(b"\x89PNG") and b"Software" not in content and b"tIME" not in content


def test_mlcroissant_accepts_the_metadata_and_reads_the_records(built: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    dataset = mlcroissant.Dataset(built / "croissant.json")
    assert dataset.metadata.ctx.issues.report() == ""
    read = {row["web/id"].decode(): json.loads(row["web/metadata"]) for row in dataset.records("web")}
    assert sorted(read) == ["기록-002", "기록-003"] and read["기록-003"]["language"] == "en"


def test_commands_run_without_torch(tmp_path: Path) -> None:
    lines = write(tmp_path / "a.jsonl", [row(1)])
    program = f"""
import sys
for name in ("torch", "transformers", "trl", "datasets"):
    sys.modules[name] = None
from data.__main__ import app
for arguments in (["build", "--version", "1.0.0", "--input", {str(lines)!r}, "--out", "r"], ["verify", "r"], ["diff", "r", "r"],
                  ["export", "r", "--out", "r.csv"]):
    app(["release", *arguments], standalone_mode=False)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r" / MANIFEST).is_file()


@pytest.mark.parametrize("command", ["release build", "release verify", "release diff", "release export", "serve"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    code, out = run(*command.split(), "--help")
    assert code == 0 and "Example:" in out and f"python -m data {command}" in out


# ---- what is refused ----

REFUSED = {
    "a record twice": ([row(1), row(1)], [":2:", "기록-001", ":1", "data validate"]),
    "an unknown field": ([row(1), row(2, outcom="success")], [":2:", "outcom", "Did you mean 'outcome'?"]),
    "no record": ([], ["no record"]),
    "no licence": ([row(1, metadata_licence=None)], [":1:", "metadata.licence", "missing", "SPDX"]),
    "a licence that nobody knows": ([row(1, metadata_licence="CC BY 4.0")], ["no SPDX", "Did you mean 'CC-BY-4.0'?"]),
    "non-commercial": ([row(1, metadata_licence="cc-by-nc-4.0")], ["CC-BY-NC-4.0", "commercial"]),
    "no derivatives": ([row(1, metadata_licence="CC-BY-ND-4.0")], ["CC-BY-ND-4.0", "changed versions"]),
    "share-alike": ([row(1, metadata_licence="CC-BY-SA-4.0")], ["CC-BY-SA-4.0", "share-alike"]),
    "copyleft": ([row(1, metadata_licence="GPL-3.0-or-later")], ["share-alike"]),
    "a choice": ([row(1, metadata_licence="MIT OR Apache-2.0")], ["choose one"]),
    "nobody to name": ([row(1, metadata_source=None)], ["metadata.source", "CC-BY-4.0"]),
    "an address": (
        [row(1, metadata_answer="write to kim@corp.example.kr")],
        ["metadata.answer", "1 EMAIL", "data redact"],
    ),
    "an address for an id": ([row(1, id="kim@corp.example.kr", metadata_licence=None)], ["field 'id'", "1 EMAIL"]),
    "attribution that is no text": ([row(1, metadata_attribution=3)], ["metadata.attribution"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_inputs_are_named_and_leave_nothing(name: str, tmp_path: Path) -> None:
    rows, words = REFUSED[name]
    code, out = build(tmp_path, "1.0.0", rows)
    assert code == 2
    for word in words:
        assert word in out, out
    assert "kim@corp" not in out
    assert [path.name for path in tmp_path.iterdir()] == ["1.0.0.jsonl"]


def test_all_refused_records_are_counted(tmp_path: Path) -> None:
    _, out = build(tmp_path, "1.0.0", [row(number, metadata_licence="CC-BY-NC-4.0") for number in range(9)])
    assert out.count("commercial use") == 5 and "4 more" in out


def test_bytes_that_are_no_record_are_named_as_validate_names_them(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps(row(1)).encode() + b"\n\xff\n")
    code, out = run("release", "build", "--version", "1.0.0", "--input", path, "--out", tmp_path / "r")
    assert code == 2 and f"{path}:2:" in out
    _, validated = run("validate", path)
    assert out.split("\n")[0] in validated


def test_the_command_line_speaks_for_records_that_say_nothing(tmp_path: Path) -> None:
    rows = [row(1), row(2, metadata_licence=None, metadata_source=None)]
    code, out = build(tmp_path, "1.0.0", rows, "--licence", "CC0-1.0", "--source", "모임")
    assert code == 0 and "1 records stated no licence and got 'CC0-1.0'" in out
    first, second = (
        json.loads(line) for line in (tmp_path / "1.0.0/data/file-ops.jsonl").read_text("utf-8").splitlines()
    )
    assert first == rows[0]
    assert (second["metadata"]["licence"], second["metadata"]["source"]) == ("CC0-1.0", "모임")


def test_what_a_killed_build_left_goes_away(tmp_path: Path) -> None:
    left = tmp_path / ".1.0.0.12345-abcd.partial"
    left.mkdir()
    (left / "records.sqlite").write_bytes(b"half")
    code, _ = build(tmp_path, "1.0.0", [row(1)])
    assert code == 0
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_every_allowed_licence_is_spelled_as_spdx_does() -> None:
    assert all(licence_to_spdx(name.lower()) == name for name in ALLOWED)


# ---- versions ----


def change(rows: Rows, kind: str) -> Rows:
    rows = copy.deepcopy(rows)
    if kind == "fix":
        rows[0]["metadata"]["answer"] = "mended"
    elif kind == "moved to another category":
        rows[5]["category"] = "web"
    elif kind == "record added":
        rows.append(row(7))
    elif kind == "field added":
        rows[0]["metadata"]["tier"] = "gold"
    elif kind == "category added":
        rows.append(row(7, category="other"))
    elif kind == "record removed":
        del rows[0]
    elif kind == "field removed":
        for each in rows:
            each["metadata"].pop("language", None)
    elif kind == "type changed":
        rows[0]["metadata"]["attribution"] = "Kim"
    elif kind == "relicensed":
        rows[0]["metadata"]["licence"] = "MIT"
    elif kind == "category removed":
        rows[4]["category"] = "web"
    return rows


LEVELS = {
    "nothing": "patch",
    "fix": "patch",
    "moved to another category": "patch",
    "record added": "minor",
    "field added": "minor",
    "category added": "minor",
    "record removed": "major",
    "field removed": "major",
    "type changed": "major",
    "relicensed": "major",
    "category removed": "major",
}


@pytest.mark.parametrize("kind", LEVELS)
def test_a_version_must_fit_the_change(kind: str, built: Path, tmp_path: Path) -> None:
    versions = {"patch": "1.0.1", "minor": "1.1.0", "major": "2.0.0"}
    rows = change(some_rows(), kind)
    level = LEVELS[kind]
    lower = {"minor": "1.0.1", "major": "1.1.0"}.get(level)
    if lower is not None:
        code, out = build(tmp_path, lower, rows, "--previous", built)
        assert code == 2 and level in out and versions[level] in out, out
        assert not (tmp_path / lower).exists()
    code, out = build(tmp_path, versions[level], rows, "--previous", built)
    assert code == 0, out
    code, out = run("release", "diff", built, tmp_path / versions[level], "--json")
    assert code == 0 and json.loads(out)["level"] == level


def changes_with(**changes: Any) -> Changes:
    lists = ("added", "removed", "fields_added", "fields_removed", "files_added", "files_removed", "licences_added")
    nothing: dict[str, Any] = {name: [] for name in (*lists, "licences_removed")}
    nothing |= {"changed": {}, "relicensed": {}, "fields_retyped": {}, "schema_versions": ("1.0.0", "1.0.0")}
    return Changes(**nothing | changes)


@pytest.mark.parametrize(
    ("before", "version", "level"),
    [
        ("1.2.3", "1.2.4", "patch"),
        ("1.2.3", "1.3.0", "minor"),
        ("1.2.3", "2.0.0", "major"),
        ("1.9.0", "1.10.0", "minor"),
        ("1.2.3", "1.3.0-rc.1", "minor"),
        ("1.0.0-rc.1", "1.0.0", "major"),
        ("1.0.0-rc.9", "1.0.0-rc.10", "major"),
        ("1.1.0-rc.1", "1.1.0", "minor"),
        ("1.1.1-rc.1", "1.1.1", "patch"),
        ("0.1.0", "0.1.1", "major"),
        ("0.9.0", "1.0.0", "major"),
        ("1.0.0+old", "1.0.1+new", "patch"),
        ("1.2.3", "1.2.3", None),
        ("1.2.3", "1.2.3+build.2", None),
        ("1.2.3", "1.2.3-rc.1", None),
        ("1.2.3", "1.2.2", None),
        ("1.10.0", "1.9.0", None),
        ("1.0.0-rc.10", "1.0.0-rc.9", None),
        ("1.0.0-beta", "1.0.0-alpha.1", None),
        ("1.2.3", "1.3.1", None),
        ("1.2.3", "2.1.0", None),
    ],
)
def test_what_semver_allows_from_version_to_version(before: str, version: str, level: str | None) -> None:
    """By the rules of semver.org 2.0.0; None: not for any change."""

    changes_of_level = {
        "patch": changes_with(changed={"a": ["outcome"]}),
        "minor": changes_with(changed={"a": ["outcome"]}, added=["b"]),
        "major": changes_with(added=["b"], removed=["c"]),
    }
    names = list(changes_of_level)
    for name, changes in changes_of_level.items():
        allowed = level is not None and names.index(level) >= names.index(name)
        try:
            check_order(text_to_version(version), Version.parse(before))
            check_level(text_to_version(version), Version.parse(before), changes)
        except UserError:
            assert not allowed, name
        else:
            assert allowed, name


@pytest.mark.parametrize(
    "text", ["1.0", "v1.0.0", "01.0.0", "1.0.0-01", "1.0.0.0", "", "1.0.0 ", "일.0.0", "1.0.0-", "1.0.0+"]
)
def test_what_is_no_version_is_refused(text: str, tmp_path: Path) -> None:
    code, out = run(
        "release", "build", "--version", text, "--input", write(tmp_path / "a", [row(1)]), "--out", tmp_path / "r"
    )
    assert code == 2 and "semver.org" in out


def test_the_version_before_is_found_beside_and_the_changelog_grows(tmp_path: Path) -> None:
    rows = [row(1), row(2)]
    assert build(tmp_path, "1.0.0", rows)[0] == 0
    assert build(tmp_path, "2.0.0-rc.1", rows[:1])[0] == 0
    code, out = build(tmp_path, "1.0.1", rows[:1])  # against 1.0.0: a record is gone
    assert code == 2 and "2.0.0" in out and "기록-002" in out
    code, out = build(tmp_path, "2.0.0", rows[:1])  # the pre-release promised nothing, so against 1.0.0 too
    assert code == 0 and "since 1.0.0" in out
    code, out = build(tmp_path, "1.1.0", [*rows, row(3)])  # 1.x is still looked after
    assert code == 0 and "since 1.0.0" in out
    code, out = run(
        "release", "build", "--version", "2.0.0+b", "--input", tmp_path / "1.0.0.jsonl", "--out", tmp_path / "x"
    )
    assert code == 2 and "released already" in out
    changelog = (tmp_path / "1.1.0/CHANGELOG.md").read_text(encoding="utf-8")
    assert changelog.index("## 1.1.0") < changelog.index("1 record was added") < changelog.index("## 1.0.0")
    assert changelog.count("# Changelog\n") == 1
    previous = read_manifest(tmp_path / "1.1.0").previous
    assert previous is not None and previous.release_sha256 == read_manifest(tmp_path / "1.0.0").release_sha256


def test_a_damaged_version_before_is_refused(held: Path, tmp_path: Path) -> None:
    path = held / "data/web.jsonl"
    path.write_bytes(path.read_bytes().replace("기록-002".encode(), "기록-009".encode()))
    code, out = build(tmp_path / "r", "1.0.1", some_rows(), "--previous", held)
    assert code == 2 and "data/web.jsonl" in out and "release verify" in out


# ---- verify ----


def test_an_untouched_release_is_proven(built: Path) -> None:
    number = read_manifest(built).release_sha256
    for path in (built, *built.glob("*.zip")):
        code, out = run("release", "verify", path, "--sha256", number)
        assert code == 0 and number in out, out
        code, out = run("release", "verify", path, "--json")
        assert code == 0 and json.loads(out)["faults"] == []


def test_a_flipped_byte_of_any_file_is_named(held: Path) -> None:
    for name, content in contents(held).items():
        for place in {0, len(content) // 3, len(content) // 2, len(content) - 1}:
            flipped = bytearray(content)
            flipped[place] ^= 0x01
            (held / name).write_bytes(flipped)
            code, out = run("release", "verify", held, "--json")
            assert code == 1, (name, place)
            assert {fault["path"] for fault in json.loads(out)["faults"]} == {name}, (name, place)
        (held / name).write_bytes(content)
    assert run("release", "verify", held)[0] == 0


def test_missing_extra_and_linked_files_are_named(held: Path) -> None:
    (held / "croissant.json").unlink()
    (held / "data/extra.jsonl").write_text("{}\n")
    (held / ".hidden").write_text("x")
    (held / "ATTRIBUTION.md").rename(held.parent / "elsewhere.md")
    (held / "ATTRIBUTION.md").symlink_to(held.parent / "elsewhere.md")
    (held / "linked").symlink_to("/")
    code, out = run("release", "verify", held, "--json")
    assert code == 1
    faults = {fault["path"]: fault["reason"] for fault in json.loads(out)["faults"]}
    assert faults.keys() == {"croissant.json", "data/extra.jsonl", ".hidden", "ATTRIBUTION.md", "linked"}
    assert faults["croissant.json"] == "is missing" and "not released" in faults["data/extra.jsonl"]


def resign(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """What somebody does who knows the format: change the manifest and compute its hashes anew."""
    value = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    edit(value)
    (folder / MANIFEST).write_text(Manifest.model_validate(value).signed().to_json(), encoding="utf-8")


def test_a_forged_release_is_told_by_the_announced_number(held: Path) -> None:
    number = read_manifest(held).release_sha256
    (held / "ATTRIBUTION.md").write_text("nobody\n")
    digest = hashlib.sha256(b"nobody\n").hexdigest()

    def edit(value: dict[str, Any]) -> None:
        (file,) = (file for file in value["files"] if file["path"] == "ATTRIBUTION.md")
        file.update(bytes=7, sha256=digest)
        value["archive"] = None

    resign(held, edit)
    next(held.glob("*.zip")).unlink()
    assert run("release", "verify", held)[0] == 0  # it fits itself
    code, out = run("release", "verify", held, "--sha256", number)
    assert code == 1 and "another release" in out


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda value: value["files"][0].update(rows=9), "data/code-execution.jsonl"),
        (lambda value: value["files"][2]["parts"][0].update(licence="MIT"), "data/web.jsonl"),
        (lambda value: value["statistics"].update(actions=1), "statistics"),
        (lambda value: value["sources"].pop(), "sources"),
        (lambda value: value["fields"].pop("tool"), "fields"),
    ],
)
def test_what_a_manifest_says_is_counted_anew(edit: Callable[[dict[str, Any]], None], named: str, held: Path) -> None:
    def without_archive(value: dict[str, Any]) -> None:
        edit(value)
        value["archive"] = None

    resign(held, without_archive)
    next(held.glob("*.zip")).unlink()
    code, out = run("release", "verify", held)
    assert code == 1 and named in out, out


def replace(folder: Path, path: str, content: bytes) -> None:
    """Another content for a file, of which the manifest and its hashes say that it is right."""
    (folder / path).write_bytes(content)

    def edit(value: dict[str, Any]) -> None:
        for file in [*value["files"], *filter(None, [value["archive"]])]:
            if file["path"] == path:
                file.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())

    resign(folder, edit)


def test_records_are_read_anew_behind_right_hashes(held: Path) -> None:
    lines = (held / "data/web.jsonl").read_bytes().splitlines(keepends=True)
    other = (held / "data/code-execution.jsonl").read_bytes()
    for content, reason in (
        (b"".join(lines[::-1]), "is not after"),
        (lines[0] + lines[0], "is not after"),
        (lines[0], "has 1 records"),
        (b"", "has 0 records"),
        (lines[0] + other, "category"),
        (lines[0] + lines[1].rstrip(), "no end"),
        (lines[0] + lines[1].replace(b"outcome", b"outcomes"), "outcomes"),
        (lines[0] + lines[1].replace(b"CC-BY-4.0", b"CC-BY-NC-4.0"), "commercial"),
    ):
        replace(held, "data/web.jsonl", content)
        code, out = run("release", "verify", held)
        assert code == 1 and "data/web.jsonl" in out and reason in out, out


def test_parquet_and_zip_that_hold_something_else_are_named(held: Path, built: Path, tmp_path: Path) -> None:
    before = (held / "data/web.parquet").read_bytes()
    for content in ((held / "data/file-ops.parquet").read_bytes(), b"PAR1 nothing PAR1"):
        replace(held, "data/web.parquet", content)
        code, out = run("release", "verify", held)
        assert code == 1 and "data/web.parquet: " in out, out
    replace(held, "data/web.parquet", before)
    assert build(tmp_path / "other", "1.0.0", some_rows()[:3])[0] == 0
    (name,) = (path.name for path in built.glob("*.zip"))
    for content in ((tmp_path / "other/1.0.0" / name).read_bytes(), b"PK\x03\x04"):
        replace(held, name, content)
        code, out = run("release", "verify", held)
        assert code == 1 and f"{name}: " in out, out


def test_names_from_outside_cannot_drive_the_terminal(held: Path) -> None:
    (held / "a\x1b[31m\nMANIFEST.json is fine").touch()
    (held / os.fsdecode(b"x\xff")).touch()
    code, out = run("release", "verify", held)
    assert code == 1 and "\x1b" not in out and len(out.splitlines()) == 2
    assert run("release", "verify", held, "--json")[0] == 1


def test_lines_that_are_no_records_are_told_without_a_traceback(held: Path) -> None:
    for content in (b"3\n", b"{}\n", b'{"id": 1, "metadata": {}}\n', b"nonsense\n"):
        replace(held, "data/web.jsonl", content)
        code, out = run("release", "diff", held, held)
        assert code == 2 and "web.jsonl:1: is no record" in out


def repack(source: Path, target: Path, change: Callable[[zipfile.ZipFile, str], None]) -> Path:
    """The release's ZIP with something done to it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info, old.read(info))
        change(new, old.infolist()[0].filename.split("/")[0])
    return target


def add_link(archive: zipfile.ZipFile, top: str) -> None:
    info = zipfile.ZipInfo(f"{top}/data/link")
    info.create_system = 3
    info.external_attr = 0o120777 << 16
    archive.writestr(info, "/etc/passwd")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda archive, top: archive.writestr("../../evil", "x"), "evil"),
        (lambda archive, top: archive.writestr(f"{top}/../evil", "x"), "evil"),
        (lambda archive, top: archive.writestr("/etc/evil", "x"), "evil"),
        (lambda archive, top: archive.writestr("C:/evil", "x"), "evil"),
        (lambda archive, top: archive.writestr(f"{top}/README.md", "x"), "README.md"),
        (lambda archive, top: archive.writestr(f"{top}/extra", "x"), "extra"),
        (add_link, "data/link"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_members_of_a_zip_are_named(
    change: Callable[[zipfile.ZipFile, str], None], named: str, built: Path, tmp_path: Path
) -> None:
    path = repack(next(built.glob("*.zip")), tmp_path / "x.zip", change)
    code, out = run("release", "verify", path, "--json")
    assert code == 1
    reasons = [fault["reason"] for fault in json.loads(out)["faults"] if named in fault["path"]]
    assert reasons and (named != "evil" or reasons == ["leads out of the folder of the release"]), out
    assert list(tmp_path.iterdir()) == [path]


def test_a_zip_bomb_is_not_unpacked(built: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    source = next(built.glob("*.zip"))

    def bomb(archive: zipfile.ZipFile, top: str) -> None:
        archive.writestr(f"{top}/data/bomb", b"\0" * 50_000_000)

    repack(source, path, bomb)
    code, out = run("release", "verify", path)
    assert code == 1 and "data/bomb: was not released" in out
    # A member that says it is small and is not.
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            grows = info.filename.endswith("README.md")
            new.writestr(info.filename, b"\0" * 50_000_000 if grows else old.read(info))
    size = read_manifest(built).files[[file.path for file in read_manifest(built).files].index("README.md")].bytes
    content = path.read_bytes().replace(struct.pack("<L", 50_000_000), struct.pack("<L", size))
    path.write_bytes(content)
    code, out = run("release", "verify", path)
    assert code == 1 and "README.md" in out


def test_a_zip_that_claims_a_terabyte_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(300):
            archive.writestr(f"a/{number}", "x")
    path.write_bytes(path.read_bytes().replace(struct.pack("<LL", 1, 1), struct.pack("<LL", 1, 2**32 - 2)))
    code, out = run("release", "verify", path)
    assert code == 2 and "not opened" in out


@pytest.mark.parametrize("content", [b"", b"{}", b"PK\x05\x06" + b"\0" * 18])
def test_what_is_no_release_is_told_so(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    for wrong in (path, tmp_path, tmp_path / "nothing"):
        code, out = run("release", "verify", wrong)
        assert code == 2 and "Traceback" not in out


def test_a_path_of_a_manifest_cannot_leave_the_folder(held: Path) -> None:
    for path in ("../x", "/etc/passwd", "a/../../x", ".git/config", "a\\b", ""):
        value = json.loads((held / MANIFEST).read_text(encoding="utf-8"))
        value["files"][0]["path"] = path
        with pytest.raises(ValueError):
            Manifest.model_validate(value)
        with pytest.raises(ValueError):
            Archive(path=path, bytes=1, sha256="0" * 64)


# ---- diff ----


def test_diff_says_what_changed(built: Path, tmp_path: Path) -> None:
    rows = some_rows()
    del rows[5]
    rows[0]["metadata"]["tier"] = "gold"
    rows[2]["outcome"] = "success"
    rows[2]["metadata"]["licence"] = "MIT"
    rows.append(row(8, category="기타"))
    assert build(tmp_path, "2.0.0", rows, "--previous", built)[0] == 0
    code, out = run("release", "diff", built, tmp_path / "2.0.0", "--json")
    changes = json.loads(out)
    assert code == 0 and changes["level"] == "major"
    assert (changes["added"], changes["removed"]) == (["기록-008"], ["기록-006"])
    assert changes["changed"] == {"기록-001": ["metadata"], "기록-003": ["outcome", "metadata"]}
    assert changes["relicensed"] == {"기록-003": ["CC-BY-4.0", "MIT"]}
    assert changes["fields_added"] == ["metadata.tier"] and changes["files_added"] == ["other"]
    assert changes["licences_removed"] == ["CC0-1.0"]
    assert changes["statistics"]["outcomes.web.success"] == [0, 1]
    code, out = run("release", "diff", built, tmp_path / "2.0.0", "--ids")
    assert code == 0 and "기록-003" in out and "major change" in out and "metadata.tier" in out
    code, out = run("release", "diff", built, built, "--json")
    assert json.loads(out)["level"] == "patch" and not json.loads(out)["statistics"]


def test_arguments_and_outputs_are_no_fields() -> None:
    each = row(1)
    each["environment"]["details"] = {"os": 1}
    each["metadata"]["mine"] = {"seed": 1}
    names = {name for name, _ in record_to_fields(each)}
    assert {
        "metadata.mine",
        "environment.details",
        "action_sequence[].input",
        "metadata.tools[].function.name",
    } <= names
    assert not {name for name in names if name.endswith((".os", ".seed", ".path", ".properties"))}


# ---- tables ----


@given(st.text())
def test_a_cell_comes_back_and_is_never_a_formula(text: str) -> None:
    cell = text_to_cell(text)
    assert cell_to_text(cell) == text and not cell.startswith(
        ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
    )


def test_csv_holds_no_formula_and_comes_back(built: Path, tmp_path: Path) -> None:
    code, out = run("release", "export", built, "--format", "csv", "--out", tmp_path / "all.csv")
    assert code == 0 and "6 records" in out
    text = (tmp_path / "all.csv").read_text(encoding="utf-8")
    assert '"\'=셸|<b>"' in text and '"=' not in text
    lines = [
        json.loads(line) for path in (built / "data").glob("*.jsonl") for line in path.read_text("utf-8").splitlines()
    ]
    assert {each["id"]: each for each in csv_to_records(tmp_path / "all.csv")} == {each["id"]: each for each in lines}


def test_tables_of_a_category(built: Path, tmp_path: Path) -> None:
    code, _ = run(
        "release", "export", built, "--format", "parquet", "--category", "웹상호작용", "--out", tmp_path / "a.parquet"
    )
    assert code == 0 and parquet.read_table(tmp_path / "a.parquet").column("id").to_pylist() == ["기록-002", "기록-003"]
    code, out = run("release", "export", built, "--category", "wep", "--out", tmp_path / "b")
    assert code == 2 and "Did you mean 'web'?" in out and not (tmp_path / "b").exists()
    code, out = run("release", "export", built, "--category", "other", "--out", tmp_path / "b")
    assert code == 2 and "file-ops" in out


def test_dataframe_has_json_text_in_nested_columns(built: Path) -> None:
    frame = release_to_dataframe(built)
    assert list(frame.columns)[:3] == ["id", "category", "timestamp"] and len(frame) == 6
    assert {each["id"]: row_to_record(each) for each in frame.to_dict("records")} == {
        each["id"]: each
        for path in (built / "data").glob("*.jsonl")
        for each in map(json.loads, path.open(encoding="utf-8"))
    }
    assert len(release_to_dataframe(built, "web")) == 2
