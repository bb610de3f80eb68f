"""The bytes that the whole way gives, as one sha256 a file: what a change that only moves code must give again.

    python tests/support/recorded_bytes.py            # shows what changes and writes tests/recorded_bytes.json
    python tests/support/recorded_bytes.py --dry-run  # only shows it

Records of all worlds (two seeds, frozen clock), their pairs, KPIs and tasks; every adapter's sample converted; two sets built
from what came out; and the token trees of their rows under the embedded model's tokenizer. Counts and manifests hold versions
and times and are left out. The code world's outputs hold words of the interpreter, so the sums are those of one Python.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

sys.path[:0] = map(str, Path(__file__).resolve().parents[1:3])  # this checkout, whatever is installed

from benchmark.__main__ import app as benchmark_app
from core.command_line import run_command
from core.json_lines import read_jsonl
from data.__main__ import app as data_app
from data.chats import Chat, PreferencePair
from data.formats.catalogue import ADAPTERS
from data.rendering.renderer import Renderer
from support.golden import entry_of, results_of, sample_file
from support.paths import ROOT

FILE = ROOT / "tests" / "recorded_bytes.json"
MODEL = ROOT / ".cache" / "tiny"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
SEEDS = (7, 8)


def run(app: object, *arguments: object) -> None:
    """A command, in this process; raises where it does not end with 0."""
    said = StringIO()
    sys.argv = ["command", *map(str, arguments)]
    try:
        with redirect_stdout(said), redirect_stderr(said):
            run_command(app, name="command")  # type: ignore[arg-type]  # typer's app, as both packages give it
    except SystemExit as stop:
        if stop.code:
            raise RuntimeError(f"{arguments} ended with {stop.code}:\n{said.getvalue()[-2000:]}") from None


def convert(name: str) -> None:
    """A sample through its adapter; samples hold many refused rows, and some nothing else, on purpose."""
    adapter = ADAPTERS[name]
    with open(f"converted-{name}.jsonl", "w", encoding="utf-8") as file:
        for number, result in results_of(adapter, Path("sample.jsonl")):
            file.write(json.dumps(entry_of(number, result), ensure_ascii=False) + "\n")


def make_files() -> None:
    """Everything that is summed, in the current folder."""
    for seed in SEEDS:
        records = f"records-{seed}.jsonl"
        run(benchmark_app, "record", "--freeze-clock", "--count", 60, "--seed", seed, "--out", records)
        run(data_app, "pairs", records, "--out", f"pairs-{seed}.jsonl")
        run(benchmark_app, "kpis", records, "--by", "world,tier", "--out", f"kpis-{seed}.json")
        run(benchmark_app, "tasks", "--count", 100, "--seed", seed, "--out", f"tasks-{seed}.jsonl")
    for name in ADAPTERS:
        shutil.copy(sample_file(name), "sample.jsonl")  # a relative path: it stands in ids
        convert(name)
    Path("sample.jsonl").unlink()
    for name, files in {"chats": [f"records-{seed}.jsonl" for seed in SEEDS], "pairs": ["pairs-7.jsonl"]}.items():
        adapter = "trajectory" if name == "chats" else "pairs"
        sources = [{"adapter": adapter, "path": path, "weight": 1.5} for path in files]
        config = {"sources": sources, "seed": 3, "validation_share": 0.2, "out": f"set-{name}"}
        Path("build.yaml").write_text(json.dumps(config), encoding="utf-8")
        run(data_app, "build", "--config", "build.yaml")
        renderer = Renderer.from_pretrained(MODEL)
        with open(f"trees-{name}.jsonl", "w", encoding="utf-8") as file:
            for _, row in read_jsonl(f"set-{name}/train.jsonl"):
                to_tree = renderer.chat_to_tree if name == "chats" else renderer.pair_to_tree
                tree = to_tree((Chat if name == "chats" else PreferencePair).model_validate(row))  # type: ignore[arg-type]
                file.write(f"{tree}\n")


def sums() -> dict[str, str]:
    """sha256 of each JSON Lines file, and of the numbers of each kpis.json, by name."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            make_files()
            found = {
                str(path): hashlib.sha256(path.read_bytes()).hexdigest()
                for path in sorted(Path().rglob("*.json*"))
                if "counts" not in path.name and path.name != "manifest.json"
            }
        finally:
            os.chdir(before)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Write tests/recorded_bytes.json anew and show what changed.")
    parser.add_argument("--dry-run", action="store_true", help="only show what would change")
    args = parser.parse_args()
    was = json.loads(FILE.read_text(encoding="utf-8"))["sums"] if FILE.exists() else {}
    now = sums()
    for name in sorted(was.keys() | now.keys()):
        if was.get(name) != now.get(name):
            print(f"{name}: {was.get(name, 'new')[:12]} -> {now.get(name, 'gone')[:12]}")  # noqa: T201 - the command's result
    if not args.dry_run:
        FILE.write_text(json.dumps({"python": PYTHON, "sums": now}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
