"""The whole way gives the bytes that tests/recorded_bytes.json holds: moved code is the same code."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from support.recorded_bytes import FILE, PYTHON, ROOT


def test_records_chats_pairs_sets_and_trees_have_the_recorded_bytes(tiny_model: object) -> None:
    recorded = json.loads(FILE.read_text(encoding="utf-8"))
    if recorded["python"] != PYTHON:
        pytest.skip(f"recorded with Python {recorded['python']}: the code world's outputs hold the interpreter's words")
    # a process of its own: the current folder stands in ids, and the commands' progress in the terminal
    command = [sys.executable, ROOT / "tests" / "support" / "recorded_bytes.py", "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "", f"changed (meant? then run tests/support/recorded_bytes.py):\n{done.stdout}"
