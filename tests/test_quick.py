"""What `scripts/test --quick` runs: it is there, and it can start no process and open no port."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys

import pytest

from support.paths import ROOT
from support.quick import NOT_QUICK, QUICK_FILES, nothing_started


def test_what_is_named_as_quick_is_there() -> None:
    texts = [(ROOT / "tests" / f"test_{name}.py").read_text(encoding="utf-8") for name in QUICK_FILES]
    named = {name for text in texts for name in re.findall(r"^def (test_\w+)\(", text, re.MULTILINE)}
    assert named >= NOT_QUICK


@pytest.mark.parametrize("kind", ["a process", "a fork", "a shell", "a port"])
def test_a_quick_test_that_starts_a_process_or_opens_a_port_fails(kind: str) -> None:
    with nothing_started() as tried:
        with pytest.raises(AssertionError, match="a quick test may not do this"):
            if kind == "a process":
                subprocess.run([sys.executable, "-c", ""])
            elif kind == "a fork":
                os.fork() or os._exit(0)
            elif kind == "a shell":
                os.system("true")
            else:
                with socket.socket() as opened:
                    opened.bind(("127.0.0.1", 0))
        assert len(tried) == 1
