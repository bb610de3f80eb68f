"""The process that computes: parts one after the other, each finding written as a line of JSON as soon as it is there.

The command (`__main__.py`) starts it, reads the lines, and starts another one for the parts that are left where a part took
the process down with it, as a fault of a kernel does.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore")
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch

from scripts.measure.gpu.against_trl import against_trl
from scripts.measure.gpu.compiling import compiles
from scripts.measure.gpu.exact import exact
from scripts.measure.gpu.generation import generation
from scripts.measure.gpu.report import Finding
from scripts.measure.gpu.roof import about, roof
from scripts.measure.gpu.runs import kill_and_resume, several
from scripts.measure.gpu.setting import Clock, Setting, read_tokenizer
from scripts.measure.gpu.training import four_bits, train
from train.environment import quiet

PARTS: Mapping[str, tuple[Callable[[Setting], Iterator[Finding]], float]] = {
    "a": (roof, 2), "b": (exact, 20), "c": (train, 20), "d": (against_trl, 30), "h": (compiles, 20), "g": (generation, 20),
    "f": (kill_and_resume, 50), "e": (four_bits, 20), "i": (several, 60),
}  # fmt: skip
"""The most telling first, with the seconds on a card that must be left to begin it."""


def run_parts(setting: Setting, parts: str, tell: Callable[[dict[str, Any]], None]) -> None:
    """Run the parts in the order of `PARTS`; a part that raises is one finding, and the rest goes on.

    `tell` gets {"about": ...} first, then {"begin": part} and {"finding": ...} and {"end": part}.
    """
    quiet()
    for name in ("trl", "accelerate", "torch._dynamo", "torch._inductor"):
        logging.getLogger(name).setLevel(logging.ERROR)
    tell({"about": about(setting)})
    for part, (check, seconds) in PARTS.items():
        if part not in parts:
            continue
        tell({"begin": part})
        if setting.clock.left < (seconds if setting.cuda else 1):
            line = f"takes {seconds:g} s or more, and {max(setting.clock.left, 0):.0f} are left of --minutes"
            tell({"finding": asdict(Finding(part, "all of it", "not run", line))})
        else:
            try:
                for finding in check(setting):
                    tell({"finding": asdict(finding)})
            except Exception as error:  # whatever a library or a card raises is one line
                tell({"finding": asdict(Finding(part, "the part itself", "broken", one_line(error)))})
        tell({"end": part})
        gc.collect()
        if setting.cuda:
            torch.cuda.empty_cache()  # raises where a kernel's fault has spoilt the process; the command starts another one


def one_line(error: BaseException) -> str:
    """An exception for a table, with the place in our code that it came through."""
    import traceback  # noqa: PLC0415 - only where something broke

    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    text = (str(error).strip().splitlines() or ["no message"])[0][:240]
    return f"{type(error).__name__}: {text}{where}"


def main() -> None:
    """One argument: a JSON file that says what `__main__.py` has decided, and the file for the lines."""
    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder = Path(tempfile.mkdtemp(prefix="gpu-check-"))
    try:
        tokenizer = read_tokenizer(Path(asked["tokenizer"]) if asked["tokenizer"] else None)
        cuda = bool(asked["cuda"])
        clock = Clock(asked["end"])
        setting = Setting(cuda, folder, tokenizer, clock, asked["server"], asked["gpus"], asked["shown"], asked["roof"])
        with open(asked["lines"], "a", encoding="utf-8") as lines:

            def tell(line: dict[str, Any]) -> None:
                lines.write(json.dumps(line, ensure_ascii=False) + "\n")
                lines.flush()

            run_parts(setting, asked["parts"], tell)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
