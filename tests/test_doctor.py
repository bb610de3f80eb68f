"""scripts/doctor says what it found, also where hardly anything works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_it_tries_what_can_be_tried_and_says_so_as_json() -> None:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "VIRTUAL_ENV": sys.prefix}
    done = subprocess.run([ROOT / "scripts" / "doctor", "--json"], capture_output=True, text=True, env=environment)
    findings = {finding["about"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == int(any(finding["mark"] == "problem" for finding in findings.values())), done.stderr
    for about in ("python", "torch", "trl", "torch build", "4-bit", "attention", "machine", "disk, project", "sandbox"):
        assert findings[about]["value"]
    assert "offline" in findings["model hub"]["value"]
    assert all(finding["advice"] for finding in findings.values() if finding["mark"] != "ok")


def test_an_installation_without_packages_is_told_with_what_repairs_it() -> None:
    command = [sys.executable, "-S", "-I", ROOT / "scripts" / "doctor.py", "--no-network"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.split()[:2] == ["problem", "torch"]]
    assert "not installed" in line
    assert "scripts/setup" in done.stdout


def test_a_check_that_breaks_is_a_finding_and_does_not_stop_the_others() -> None:
    code = (
        "import sys; sys.path.insert(0, 'scripts'); import doctor\n"
        "def broken(): raise RuntimeError('no disk at all')\n"
        "doctor.memory_and_disk = broken\n"
        "found = doctor.look(ask=False)\n"
        "print([f for f in found if f.mark == 'problem'][-1], [f.about for f in found])"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "no disk at all" in done.stdout, done.stderr
    assert "'tooltune'" in done.stdout
