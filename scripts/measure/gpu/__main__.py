"""Check a machine's GPU in minutes: whether what trees compute is right, how fast it is, and what does not run.

    scripts/gpu_check                                     five minutes; JSON and a table in docs/gpu
    scripts/gpu_check --minutes 8 --only b,c              these parts
    scripts/gpu_check --device cpu --out runs/rehearsal   the check itself, with tiny shapes
    scripts/gpu_check --collect wheels --have have.txt    what a machine without network lacks (`pip freeze > have.txt` there)
    scripts/gpu_check --wheels wheels                     there

No network and no hub: random weights in the shape of a 1.7B model. The parts, the most telling first:

    a  versions, card, matrix and copy rates            f  kill and resume
    b  trees against plain rows in fp32                 e  a base in four bits
    c  twenty steps each of SFT, DPO, ORPO              i  two GPUs: DDP, FSDP2, ZeRO-3
    d  steps beside TRL's own
    h  how often FlexAttention is compiled
    g  answers with kept caches, a server

What does not fit into the time is told as not run. Older versions of torch and transformers are told and tried.

Exit codes: 0 nothing is wrong; 1 a result is wrong or a part broke (a missed target of speed is told only); 2 a mistake in the
arguments, or no GPU.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path[0] = str(ROOT)

from core.command_line import Parser
from core.errors import UserError
from core.processes import last_line, start_command
from scripts.measure.gpu.report import Finding, exit_code, write_report
from scripts.measure.gpu.wheels import collect, environment

PARTS = "abcdhgfei"
GRACE_SECONDS = 10.0
"""A part that has begun may take so much longer than the clock says."""
MOST_MINUTES = 24 * 60


def main(argv: list[str] | None = None) -> int:
    """Parse, and do one of three things."""
    parser = Parser(prog="scripts/gpu_check", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="time for all of it (default 5)")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "docs" / "gpu", help="folder of check.json and check.md (default docs/gpu)"
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu rehearses with tiny shapes")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, such as b,c (default all)")
    parser.add_argument(
        "--server", help="command of a server for part g instead of vLLM's, with {model} and {port} in it"
    )
    parser.add_argument(
        "--wheels", type=Path, help="folder that --collect made; what it holds is put over this machine's packages"
    )
    parser.add_argument(
        "--collect",
        type=Path,
        help="download the wheels for another machine into this folder, at most 60 MiB, and stop",
    )
    parser.add_argument("--have", type=Path, help="for --collect: what `pip freeze` printed there")
    parser.add_argument("--python", default="3.12", help="for --collect: Python there (default 3.12)")
    parser.add_argument("--with-4bit", action="store_true", help="for --collect: bitsandbytes, too")
    given = sys.argv[1:] if argv is None else argv
    options = parser.parse_args(given)
    began = time.time()
    if options.collect is not None:
        print(collect(options.collect, have=options.have, python=options.python, four_bit=options.with_4bit))
        return 0
    for name in ("have", "with_4bit"):
        if getattr(options, name):
            raise UserError(f"--{name.replace('_', '-')}: is for --collect DIR, which is missing")
    if not 0 < options.minutes <= MOST_MINUTES:
        raise UserError(f"--minutes {options.minutes:g}: expected more than 0 and at most {MOST_MINUTES}")
    parts = "".join(word.strip() for word in options.only.split(","))
    if not parts or set(parts) - set(PARTS):
        raise UserError(f"--only {options.only}: expected letters of {', '.join(sorted(PARTS))}, such as b,c")
    python = Path(sys.executable) if options.wheels is None else environment(options.wheels)
    about = {
        "command": shlex.join(["scripts/gpu_check", *given]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return check(
        python, parts, about, out=options.out, end=began + 60 * options.minutes, began=began, cuda=options.device == "cuda",
        tokenizer=_tokenizer(options.wheels, cuda=options.device == "cuda"), server=options.server,
    )  # fmt: skip


def _tokenizer(wheels: Path | None, *, cuda: bool) -> str | None:
    if not cuda:
        return None  # tokens of bytes make tiny models tiny
    folders = [*([wheels / "tokenizer"] if wheels else []), ROOT / ".cache" / "smollm2-135m", ROOT / ".cache" / "tiny"]
    return next((str(folder) for folder in folders if (folder / "tokenizer.json").is_file()), None)


def check(
    python: Path, parts: str, about: dict[str, Any], *, out: Path, end: float, began: float, cuda: bool,
    tokenizer: str | None, server: str | None,
) -> int:  # fmt: skip
    """Run the parts in a process of their own, in another one after a part that took it down, and write the report.

    Raises:
        UserError: if there is no GPU, or what the parts need is not installed.
    """
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
        "WANDB_MODE": "disabled", "TRL_EXPERIMENTAL_SILENCE": "1",
    }  # fmt: skip
    if not cuda:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    gpus = _count_gpus(python, environment) if cuda else 0
    shown = environment.get("CUDA_VISIBLE_DEVICES")
    if cuda:  # with several in one process the HF Trainer would split batches among them
        environment["CUDA_VISIBLE_DEVICES"] = shown.split(",")[0] if shown else "0"
    findings: list[Finding] = []
    left = [part for part in PARTS if part in parts]
    roof = 0.0
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as scratch:
        log, lines, asked = Path(scratch, "log"), Path(scratch, "lines"), Path(scratch, "asked.json")
        while left:
            lines.write_text("", encoding="utf-8")
            told = {"cuda": cuda, "parts": "".join(left), "end": end, "tokenizer": tokenizer, "server": server,
                    "lines": str(lines), "roof": roof, "gpus": gpus, "shown": shown}  # fmt: skip
            asked.write_text(json.dumps(told), encoding="utf-8")
            worker = [str(python), "-m", "scripts.measure.gpu.worker", str(asked)]
            process = start_command(worker, log=log, environment=environment)
            part, over = _follow(process, lines, end, left, findings, about, out, began)
            roof = next((each.figures["roof"] for each in findings if "roof" in each.figures), 0.0)
            if over:
                _tell(
                    Finding(part or left[0], "the part itself", "not run", "stopped when the clock ran out"), findings
                )
                left = [each for each in left if each != (part or left[0])]
                for each in left:
                    _tell(Finding(each, "all of it", "not run", "the clock ran out before it"), findings)
                left = []
            elif left:  # it died
                why = f"the process ended with exit code {process.returncode}: {last_line(log)}"
                if part is None:
                    write_report(findings, {**about, "seconds": time.time() - began}, out)
                    if not findings:
                        raise UserError(f"the parts cannot start: {last_line(log)}; --wheels brings what is missing")
                    _tell(Finding(left[0], "the part itself", "broken", why), findings)
                    left.pop(0)
                else:
                    _tell(Finding(part, "the part itself", "broken", why), findings)
                    left.remove(part)
    write_report(findings, {**about, "seconds": time.time() - began}, out)
    verdicts = [finding.verdict for finding in findings]
    counts = {verdict: verdicts.count(verdict) for verdict in ("right", "told", "not run", "wrong", "broken")}
    shown = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    print(f"\n{shown}; {time.time() - began:.0f} s; {out / 'check.json'}, {out / 'check.md'}")
    return exit_code(findings)


def _follow(
    process: subprocess.Popen[bytes], lines: Path, end: float, left: list[str], findings: list[Finding],
    about: dict[str, Any], out: Path, began: float,
) -> tuple[str | None, bool]:  # fmt: skip
    """Read what the worker tells until it ends; `left` loses what is done.

    Returns:
        The part that it was in, and whether the clock ended it.
    """
    at, part = 0, None
    while True:
        ended = process.poll() is not None  # asked before the last lines are read
        text = lines.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        for line in whole[at:].splitlines():
            told = json.loads(line)
            if "about" in told:
                about.update(told["about"])
            elif "begin" in told:
                part = told["begin"]
            elif "finding" in told:
                _tell(Finding(**told["finding"]), findings)
                write_report(findings, {**about, "seconds": time.time() - began}, out)
            elif "end" in told:
                left.remove(told["end"])
                part = None
        at = len(whole)
        if ended:
            return part, False
        if time.time() > end + GRACE_SECONDS and left:
            process.terminate()
            process.wait()
            return part, True
        time.sleep(0.2)


def _tell(finding: Finding, findings: list[Finding]) -> None:
    findings.append(finding)
    print(f"{finding.part}  {finding.verdict:8} {finding.about}: {finding.line}", flush=True)


def _count_gpus(python: Path, environment: dict[str, str]) -> int:
    asks = "import torch; print(torch.cuda.device_count() if torch.cuda.is_available() else 0)"
    done = subprocess.run([str(python), "-c", asks], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{python} cannot import torch; activate the environment that has it")
    count = int(done.stdout.split()[-1])
    if count == 0:
        raise UserError("torch sees no GPU here (scripts/doctor says more); --device cpu rehearses the check")
    return count


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
