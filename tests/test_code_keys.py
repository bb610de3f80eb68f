"""What is kept under a key is made anew when one byte of what decides it changes: code, tables, lists, templates."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmark.runs.done import ALL_CODE
from benchmark.runs.done import DECIDING_CODE as DECIDING_A_RUN
from core.files import DECIDING_SUFFIXES, code_sha256
from data.curation.pipeline import DECIDING_CODE as DECIDING_A_CURATION

ROOT = Path(__file__).resolve().parents[1]
HELD = {
    "runs": (DECIDING_A_RUN, {"core/errors.py", "data/rendering/renderer.py", "benchmark/worlds/world.py"}),
    "curation": (DECIDING_A_CURATION, {"core/json_lines.py", "data/curation/lists/phrases.yaml"}),
    "all": (ALL_CODE, {"data/contribution/patterns.yaml", "benchmark/reports/pages/base.html"}),
}


@pytest.mark.parametrize("name", HELD)
def test_one_byte_of_any_deciding_file_changes_the_key(name: str, tmp_path: Path) -> None:
    patterns, expected = HELD[name]
    for folder in ("core", "data", "benchmark"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    paths = {path for pattern in patterns for path in tmp_path.glob(pattern) if path.suffix in DECIDING_SUFFIXES}
    assert expected <= {path.relative_to(tmp_path).as_posix() for path in paths}
    before = code_sha256(tmp_path, patterns)
    assert before == code_sha256(ROOT, patterns)
    for path in sorted(paths):
        content = path.read_bytes()
        path.write_bytes(content + b"\n")
        assert code_sha256(tmp_path, patterns) != before, path
        path.write_bytes(content)
    assert code_sha256(tmp_path, patterns) == before


def test_the_name_of_a_file_is_in_its_key(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    before = code_sha256(tmp_path, ["*"])
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert code_sha256(tmp_path, ["*"]) != before
