"""Look over this machine and installation: what is there, what is missing, and what to do about it.

    scripts/doctor            a line for each finding
    scripts/doctor --json     the same as JSON, for a bug report

It needs nothing but Python, so it also runs where the installation is broken. What can be tried is tried, not read off a
version: a 4-bit weight is made, a mask is computed, a lock is taken, the sandbox runs a line. Nothing is installed or changed.

Exit codes: 0 nothing stands in the way of training; 1 something does; 2 a mistake in the arguments.
"""

from __future__ import annotations

import fcntl
import json
import locale
import logging
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from core.command_line import Parser

ROOT = Path(__file__).resolve().parents[1]
NEEDED = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "pydantic", "typer", "rich")
EXTRAS = {
    "bitsandbytes": "gpu",
    "wandb": "wandb",
    "semhash": "semantic",
    "datatrove": "cluster",
    "detect-secrets": "redaction",
    "fastapi": "serve",
    "pytest": "test",
}
ROOMY_BYTES = 20 * 2**30
"""An 8B base with its checkpoints takes about this much."""


class Finding(NamedTuple):
    """One thing that was looked at. `mark` is ok, note (a limit worth knowing) or problem (training cannot start so)."""

    mark: str
    about: str
    value: str
    advice: str = ""


def python() -> Iterator[Finding]:
    """The interpreter and where its packages are."""
    mark = "ok" if sys.version_info >= (3, 11) else "problem"
    yield Finding(
        mark,
        "python",
        f"{platform.python_version()} at {sys.executable}",
        "" if mark == "ok" else "Python 3.11 or newer is needed",
    )
    if sys.prefix == sys.base_prefix:
        yield Finding(
            "note", "environment", "no virtual environment", "scripts/setup makes .venv with everything in it"
        )
    encoding = locale.getpreferredencoding(do_setlocale=False)
    if encoding.lower().replace("-", "") != "utf8":
        yield Finding("note", "encoding", encoding, "Korean text needs UTF-8: export LC_ALL=C.UTF-8")


def packages() -> Iterator[Finding]:
    """What is installed, against the versions that were tested."""
    tested = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        name, equal, number = line.partition("==")
        if equal:
            tested[name.strip().lower()] = number.split()[0].split(";")[0]
    for name in NEEDED:
        try:
            there = version(name)
        except PackageNotFoundError:
            yield Finding("problem", name, "not installed", "scripts/setup installs what is needed")
            continue
        wanted = tested.get(name)
        if wanted and there.split("+")[0] != wanted:
            yield Finding("note", name, there, f"tested with {wanted}: pip install -c constraints.txt -e .")
        else:
            yield Finding("ok", name, there)
    missing = [f"{name} ({extra})" for name, extra in EXTRAS.items() if not _is_installed(name)]
    if missing:
        yield Finding(
            "ok",
            "extras not there",
            ", ".join(missing),
            "pip install -c constraints.txt -e '.[EXTRA]' where you want them",
        )


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def devices() -> Iterator[Finding]:
    """CUDA as torch sees it, and as the driver does."""
    driver = _output("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    if find_spec("torch") is None:
        return
    import torch  # noqa: PLC0415 - may be missing

    yield Finding("ok", "torch build", f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(index)
            free, total = torch.cuda.mem_get_info(index)
            yield Finding("ok", f"GPU {index}", f"{facts.name}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free, "
                          f"compute capability {facts.major}.{facts.minor}")  # fmt: skip
        if not torch.cuda.is_bf16_supported(including_emulation=False):
            yield Finding("note", "bf16", "only emulated by this GPU, slowly",
                          "the GPU configs say bf16: train with --bf16 false --fp16 true --dtype float16")  # fmt: skip
    elif driver:
        why = "this torch has no CUDA" if not torch.version.cuda else "torch cannot use it"
        yield Finding("problem", "GPU", f"the driver lists {driver.splitlines()[0]}, but {why}",
                      "install torch's CUDA build of the pinned version, and check the driver with nvidia-smi")  # fmt: skip
    else:
        yield Finding(
            "note",
            "GPU",
            "none",
            "use the quickstart's configs (use_cpu: true, bf16: false); 135M models train here, larger ones do not",
        )


def quantisation() -> Iterator[Finding]:
    """Whether a 4-bit weight can be made and read here."""
    if find_spec("bitsandbytes") is None or find_spec("torch") is None:
        yield Finding(
            "note",
            "4-bit",
            "bitsandbytes is not installed",
            "pip install -c constraints.txt -e '.[gpu]' for --load_in_4bit",
        )
        return
    import torch  # noqa: PLC0415 - may be missing

    device = "cuda" if torch.cuda.is_available() else "cpu"
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        from bitsandbytes import functional  # noqa: PLC0415 - may be broken

        weight = torch.randn(64, 64, device=device)
        back = functional.dequantize_4bit(*functional.quantize_4bit(weight, quant_type="nf4"))
        if not (back - weight).abs().max() < 1:
            raise RuntimeError("a weight does not come back from 4 bits")
    except Exception as error:  # whatever a compiled library raises
        yield Finding("problem", "4-bit", f"bitsandbytes fails on {device}: {_line(error)}",
                      "reinstall bitsandbytes for this CUDA version, or train without --load_in_4bit")  # fmt: skip
        return
    yield Finding("ok", "4-bit", f"NF4 works on {device}")


def attention() -> Iterator[Finding]:
    """Which attention can compute trees here."""
    if find_spec("torch") is None:
        return
    import torch  # noqa: PLC0415 - may be missing

    if not torch.cuda.is_available():
        yield Finding(
            "ok",
            "attention",
            "trees: segments (sdpa), dense as the fallback; FlexAttention and FlashAttention need CUDA",
        )
        return
    try:
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention  # noqa: PLC0415 - may be missing

        query = torch.randn(1, 2, 256, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        mask = create_block_mask(lambda b, h, q, k: q >= k, None, None, 256, 256, device="cuda")
        torch.compile(flex_attention)(query, query, query, block_mask=mask).sum().backward()
        yield Finding("ok", "attention", "trees: FlexAttention, forward and backward ran")
    except Exception as error:  # whatever the compiler raises
        yield Finding("note", "attention", f"FlexAttention fails: {_line(error)}",
                      "trees fall back to segments (sdpa); Triton needs a C compiler and a recent driver")  # fmt: skip
    flash = find_spec("flash_attn") is not None
    yield Finding(
        "ok",
        "flash-attn",
        "installed" if flash else "not installed",
        "" if flash else "not needed: trees do not use it",
    )


def memory_and_disk() -> Iterator[Finding]:
    """Room for models, data and checkpoints."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    yield Finding("ok", "machine", f"{platform.platform()}, {cores} cores, {total / 2**30:.0f} GiB memory")
    places = {"project": ROOT, "model cache": Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser(),
              "temporary files": Path(tempfile.gettempdir())}  # fmt: skip
    for name, place in places.items():
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
        roomy = free >= ROOMY_BYTES or name == "temporary files"
        advice = "" if roomy else "small models fit; an 8B base with checkpoints takes about 20 GiB" + (
            " (HF_HOME moves the cache)" if name == "model cache" else " (--output_dir may lie elsewhere)")  # fmt: skip
        yield Finding("ok" if roomy else "note", f"disk, {name}", f"{free / 2**30:.0f} GiB free at {place}", advice)
    shared = Path("/dev/shm")
    if shared.is_dir() and shutil.disk_usage(shared).total < 2**29:
        size = shutil.disk_usage(shared).total / 2**20
        yield Finding(
            "note", "shared memory", f"{size:.0f} MiB", "containers: --shm-size=1g, or --dataloader_num_workers 0"
        )
    open_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if open_files < 1024:
        yield Finding("note", "open files", str(open_files), "ulimit -n 4096")
    try:
        with tempfile.TemporaryFile(dir=ROOT) as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield Finding("ok", "file locks", "work in the project folder")
    except OSError as error:
        yield Finding("note", "file locks", f"{error.strerror} in the project folder",
                      "two runs on one output folder are not told apart; put --output_dir on a disk with locks")  # fmt: skip


def outside(*, ask: bool) -> Iterator[Finding]:
    """The hub, wandb and Slurm."""
    try:
        from huggingface_hub import constants  # noqa: PLC0415 - may be missing

        endpoint, offline = str(constants.ENDPOINT), bool(constants.HF_HUB_OFFLINE)
    except ImportError:
        endpoint, offline = "https://huggingface.co", bool(os.environ.get("HF_HUB_OFFLINE"))
    if offline:
        yield Finding("ok", "model hub", "offline by HF_HUB_OFFLINE: folders and the cache are used, nothing is asked")
    elif not ask:
        yield Finding("ok", "model hub", "not asked (--no-network)")
    else:
        try:
            urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=5).close()
            yield Finding("ok", "model hub", f"{endpoint} answers")
        except (urllib.error.URLError, OSError) as error:
            yield Finding("note", "model hub", f"{endpoint} cannot be reached ({_line(error)})",
                          "export HF_HUB_OFFLINE=1 saves retries; name model folders, or fill the cache elsewhere")  # fmt: skip
    if _is_installed("wandb"):
        mode = os.environ.get("WANDB_MODE") or "off unless a run asks with --wandb offline or online"
        yield Finding("ok", "wandb", mode)
    if job := os.environ.get("SLURM_JOB_ID"):
        yield Finding("ok", "slurm", f"inside job {job}")
    elif shutil.which("sbatch"):
        yield Finding("ok", "slurm", "sbatch is here", "scripts/submit --help")
    if os.environ.get("HF_HUB_TRUST_REMOTE_CODE") or os.environ.get("TRUST_REMOTE_CODE"):
        yield Finding("note", "remote code", "an environment variable asks to trust it", "nothing here does; unset it")


def project() -> Iterator[Finding]:
    """This checkout, the embedded model, the sandbox."""
    revision = _output("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
    changed = _output("git", "-C", str(ROOT), "status", "--porcelain")
    yield Finding("ok", "tooltune", f"revision {revision or 'unknown'}{', with local changes' if changed else ''}")
    embedded = ROOT / ".cache" / "smollm2-135m" / "config.json"
    if not embedded.is_file():
        yield Finding(
            "note",
            "embedded model",
            "not there",
            "python scripts/embedded_model.py .cache/smollm2-135m (the quickstart does it)",
        )
    if find_spec("pydantic") is None:
        return
    sys.path.insert(0, str(ROOT))
    try:
        from benchmark.worlds.sandbox.sandbox import check_isolation  # noqa: PLC0415 - needs the installation

        check_isolation()
        yield Finding("ok", "sandbox", "the code world can isolate what models write")
    except Exception as error:  # a refusal names its reason, and whatever else is wrong is a reason, too
        yield Finding(
            "note", "sandbox", _line(error), "benchmark with --worlds web,api,files,other, or see docs/sandbox.md"
        )


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def look(*, ask: bool = True) -> list[Finding]:
    """All findings. A check that breaks is a finding of its own."""
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "python": python, "packages": packages, "devices": devices, "4-bit": quantisation, "attention": attention,
        "memory and disk": memory_and_disk, "outside": lambda: outside(ask=ask), "project": project,
    }  # fmt: skip
    findings: list[Finding] = []
    for name, check in checks.items():
        try:
            findings += check()
        except Exception as error:  # a doctor that breaks down helps nobody
            findings.append(Finding("problem", name, f"could not be looked at: {type(error).__name__}: {_line(error)}",
                                    "scripts/setup repairs a broken installation; else please report this line"))  # fmt: skip
    return findings


def show(findings: list[Finding]) -> None:
    """A line for each finding, its advice below it."""
    colours = {"ok": "32", "note": "33", "problem": "31"}
    coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    width = max(len(finding.about) for finding in findings)
    for finding in findings:
        mark = f"{finding.mark:7}"
        if coloured:
            mark = f"\033[{colours[finding.mark]}m{mark}\033[0m"
        print(f"{mark}  {finding.about:{width}}  {finding.value}")
        if finding.advice:
            print(f"{'':7}  {'':{width}}  -> {finding.advice}")
    problems = sum(finding.mark == "problem" for finding in findings)
    notes = sum(finding.mark == "note" for finding in findings)
    print(
        f"\n{problems} problems, {notes} notes"
        if problems
        else f"\nnothing stands in the way of training; {notes} notes"
    )


def main() -> int:
    """Parse, look, show."""
    parser = Parser(prog="scripts/doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="findings as JSON on standard output")
    parser.add_argument("--no-network", action="store_true", help="do not ask whether the model hub answers")
    options = parser.parse_args()
    findings = look(ask=not options.no_network)
    if options.json:
        rows: list[dict[str, Any]] = [finding._asdict() for finding in findings]
        print(json.dumps(rows, ensure_ascii=False, indent=2))
    else:
        show(findings)
    return int(any(finding.mark == "problem" for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
