"""What happens to a contributed file: the script of the workflow, the workflow itself, and the forms."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.commands import run_here
from support.forking import forked_command
from support.paths import ROOT
from support.record_samples import with_metadata

SCRIPT = ROOT / "scripts" / "check_contribution.py"
GITHUB = ROOT / ".github"


def script() -> Any:
    """The script as a module whose commands run in children of this process, so that a check loads nothing anew."""
    loaded = importlib.util.spec_from_file_location("check_contribution", SCRIPT)
    assert loaded and loaded.loader
    module = importlib.util.module_from_spec(loaded)
    sys.modules["check_contribution"] = module  # its dataclasses look for it
    loaded.loader.exec_module(module)
    module.run_module = lambda package, *arguments, folder: forked_command(
        lambda: sys.exit(run_here(package, *arguments)), cwd=folder
    )
    return module


def check(*arguments: object, folder: Path) -> tuple[int, str, str]:
    def command() -> None:
        sys.argv = [str(SCRIPT), *map(str, arguments)]
        script().main()

    done = forked_command(command, cwd=folder)
    return done.returncode, done.stdout, done.stderr


def row(name: str, **changes: Any) -> dict[str, Any]:
    return {**with_metadata(licence="CC-BY-4.0"), "id": name, **changes}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with one contribution on main; work goes on on a branch."""

    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True, capture_output=True)

    git("init", "--quiet", "--initial-branch=main")
    git("config", "user.email", "tests@localhost")
    git("config", "user.name", "tests")
    write_rows(tmp_path / "contributions" / "old.jsonl", [row("old")])
    write_rows(tmp_path / "contributions" / "gone.jsonl", [row("gone")])
    git("add", ".")
    git("commit", "--quiet", "--message", "base")
    git("checkout", "--quiet", "-b", "work")
    return tmp_path


def commit(repository: Path) -> None:
    subprocess.run(["git", "-C", str(repository), "add", "--all"], check=True)
    subprocess.run(["git", "-C", str(repository), "commit", "--quiet", "--message", "work"], check=True)


def test_a_sound_contribution_passes(repository: Path) -> None:
    write_rows(repository / "contributions" / "김" / "새 파일.jsonl", [row("a"), row("b")])
    (repository / "contributions" / "김" / "README.md").write_text("about\n")
    (repository / "elsewhere.jsonl").write_text("not ours\n")
    commit(repository)
    command = [sys.executable, SCRIPT, "--changed", "main", "HEAD", "--replay", "--out", "report.md"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    out = done.stdout
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"^\| `contributions/김/새 파일\.jsonl` \| 2 \| 0 \| none \| 0 \|.*\| passes \|$", out, re.MULTILINE
    )
    assert "elsewhere" not in out and "README" not in out.split("\n\n")[0]
    assert (repository / "report.md").read_text(encoding="utf-8") == out


def test_every_way_to_fail_is_a_row(repository: Path) -> None:
    folder = repository / "contributions"
    secret = "ghp_" + "aB3dE6" * 6
    write_rows(folder / "bad.jsonl", [row("a"), row("b", outcome="성곡 | `x` @everyone ![](http://x)")])
    write_rows(folder / "secret.jsonl", [row("c", tool=secret)])
    write_rows(folder / "unlicensed.jsonl", [{**with_metadata(), "id": "d"}])
    write_rows(folder / "again.jsonl", [row("old")])
    write_rows(folder / "poor.jsonl", [row("e", action_sequence=[], metadata={"licence": "MIT"})])
    (folder / "empty.jsonl").write_text("")
    (folder / "data.csv").write_text("a,b\n")
    (folder / "link.jsonl").symlink_to("/etc/hostname")
    (folder / "gone.jsonl").unlink()
    commit(repository)
    code, out, _ = check("--changed", "main", "HEAD", folder=repository)
    assert code == 1
    table = {line.split("`")[1].split("/")[-1]: line for line in out.splitlines() if line.startswith("| `")}
    for name, reason in {
        "bad.jsonl": "1 bad lines",
        "secret.jsonl": "1 records to redact",
        "unlicensed.jsonl": "1 records without a licence",
        "again.jsonl": "1 bad lines",
        "poor.jsonl": "is below 50",
        "empty.jsonl": "1 bad lines",
        "data.csv": "not a regular .jsonl file",
        "link.jsonl": "not a regular .jsonl file",
        "gone.jsonl": "removed",
    }.items():
        assert "**fails**" in table[name] and reason in table[name], name
    assert len(table) == 9 and "old.jsonl" not in table
    assert "E501 id 'old' stands already at contributions/old.jsonl:1" in out
    assert secret not in out
    # What a contributor wrote stands in a code block, and cannot end it.
    assert out.count("```") % 2 == 0 and "`x`" not in out
    fenced = "".join(out.split("```text")[1:])
    assert "@everyone" in fenced and "@everyone" not in out.split("```text")[0]


def test_nothing_changed_is_fine_and_wrong_names_are_told(repository: Path) -> None:
    assert check("--changed", "main", "HEAD", folder=repository)[:2] == (
        0,
        "nothing below contributions/ is added or changed\n",
    )
    code, _, err = check("--changed", "nowhere", "HEAD", folder=repository)
    assert code == 2 and "nowhere" in err and "Traceback" not in err
    code, _, err = check("missing.jsonl", folder=repository)
    assert code == 2 and "missing.jsonl: cannot be read" in err and "Traceback" not in err
    assert check(folder=repository)[0] == 2


def test_files_are_checked_where_they_are(repository: Path) -> None:
    code, out, _ = check("contributions/old.jsonl", folder=repository)
    assert code == 0 and "| `contributions/old.jsonl` | 1 | 0 |" in out
    git = subprocess.run(["git", "status", "--porcelain"], cwd=repository, capture_output=True, text=True, check=True)
    assert git.stdout == "", "the check leaves nothing behind"


def test_replays_of_our_own_records_reach_the_table_and_the_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for the replay command that finds one record different, at its second step."""
    checker = script()
    run_module = checker.run_module

    def with_replay(module: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
        if module != "benchmark":
            return run_module(module, *arguments, folder=folder)
        if "--help" not in arguments:
            report, source = Path(arguments[arguments.index("--out") + 1]), Path(arguments[-1])
            rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
            difference = {"step": 1, "field": "output", "recorded": "hello", "replayed": "bye"}
            replays = [{"id": row["id"], "ok": row["id"] == "a", "steps": 2} for row in rows]
            write_rows(
                report, [replay if replay["ok"] else {**replay, "first_difference": difference} for replay in replays]
            )
        return subprocess.CompletedProcess([], 0, "", "")

    monkeypatch.setattr(checker, "run_module", with_replay)
    ours = with_metadata(licence="MIT", task={"world": "files", "seed": 1})
    write_rows(tmp_path / "ours.jsonl", [{**ours, "id": "a"}, {**ours, "id": "b"}])
    write_rows(tmp_path / "foreign.jsonl", [row("c")])
    (tmp_path / "work").mkdir()
    names, work = ["ours.jsonl", "foreign.jsonl"], tmp_path / "work"
    mine, foreign = checker.check(names, [], tmp_path, work, replay=True, fail_under=0.0)
    assert mine.replayed == "1 of 2" and mine.fails == ["some records do not replay"]
    assert any(problem.startswith("b: replay differs:") and "bye" in problem for problem in mine.problems)
    assert foreign.replayed == "not ours" and not foreign.fails
    assert not (work / "replays").exists(), "a report that lacks records would take their points"
    checker.check(names[:1], [], tmp_path, work, replay=True, fail_under=0.0)
    scores = [json.loads(line) for line in (work / "scores").read_text(encoding="utf-8").splitlines()]
    assert [score["parts"]["reproducibility"] for score in scores] == [15, 7.5]


# --- the workflow and the forms ---


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps_of(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def test_the_workflow_runs_the_script_with_real_options() -> None:
    workflow = read_yaml(GITHUB / "workflows" / "contribution.yml")
    (command,) = [step for step in steps_of(workflow["jobs"]["check"]) if "check_contribution" in step]
    words = command.split()
    assert words[:2] == ["python", "scripts/check_contribution.py"]
    usage = subprocess.run([sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True, check=True).stdout
    assert all(word in usage for word in words if word.startswith("--"))


def test_what_the_workflow_installs_is_enough(tmp_path: Path) -> None:
    """The commands of the script, with every other package out of reach."""
    workflow = read_yaml(GITHUB / "workflows" / "contribution.yml")
    (install,) = [step for step in steps_of(workflow["jobs"]["check"]) if step.startswith("pip install")]
    installed = set(install.split()[4:])
    assert {"pydantic", "typer", "matplotlib"} <= installed
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower()
    assert all(f"\n{name}==" in pins for name in installed)
    heavy = (
        "torch",
        "transformers",
        "trl",
        "datasets",
        "pandas",
        "pyarrow",
        "huggingface_hub",
        "fastapi",
        "scipy",
        "sklearn",
    )
    source = write_rows(tmp_path / "a.jsonl", [row("a")])
    commands = [
        ["validate", "--json", str(source)],
        ["redact", "--check", str(source)],
        ["score", str(source), "--out", str(tmp_path / "s.jsonl")],
    ]
    program = (
        f"import sys\nfor name in {heavy!r}:\n    sys.modules[name] = None\n"
        "from data.__main__ import app\nfrom core.command_line import run_command\n"
        f"for arguments in {commands!r}:\n    sys.argv = ['data', *arguments]\n"
        "    try:\n        run_command(app, name='data')\n"
        "    except SystemExit as stop:\n        assert not stop.code, arguments\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nobody_who_reads_a_pull_request_may_write() -> None:
    """pull_request_target has a token; the job that reads foreign data has a read-only one, and runs no foreign code."""
    workflow = read_yaml(GITHUB / "workflows" / "contribution.yml")
    assert workflow["permissions"] == {}
    checking, reporting = workflow["jobs"]["check"], workflow["jobs"]["report"]
    assert checking["permissions"] == {"contents": "read"}
    assert reporting["permissions"] == {"issues": "write"}
    (checkout,) = [step for step in checking["steps"] if str(step.get("uses", "")).startswith("actions/checkout")]
    assert "ref" not in checkout["with"] and checkout["with"]["persist-credentials"] is False
    assert not any("checkout" in str(step) for step in reporting["steps"])
    # Expressions of the event stand in `env` only, where a shell cannot take them for commands.
    assert not any("${{" in step for job in workflow["jobs"].values() for step in steps_of(job))


def test_a_failed_check_opens_or_updates_one_issue(tmp_path: Path) -> None:
    """The step itself, with a `gh` that writes down how it is called."""
    workflow = read_yaml(GITHUB / "workflows" / "contribution.yml")
    reporting = workflow["jobs"]["report"]
    assert "failure" in reporting["if"] and reporting["needs"] == "check"
    (step,) = steps_of(reporting)
    log = tmp_path / "calls"
    (tmp_path / "gh").write_text(f'#!/bin/sh\necho "$@" >> {log}\n[ "$2" = list ] && echo "$OPEN_ISSUE"\nexit 0\n')
    (tmp_path / "gh").chmod(0o755)
    (tmp_path / "report.md").write_text("| table |\n")
    for open_issue, call in [
        ("", "issue create --title Contribution check failed: pull request #7 --body-file report.md"),
        ("12", "issue comment 12 --body-file report.md"),
    ]:
        log.unlink(missing_ok=True)
        environment = {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "TITLE": "Contribution check failed: pull request #7",
            "OPEN_ISSUE": open_issue,
        }
        subprocess.run(["bash", "-e", "-c", step], cwd=tmp_path, env=environment, check=True)
        assert log.read_text().splitlines()[-1] == call


def test_forms_ask_for_what_the_guides_ask_for() -> None:
    form = read_yaml(GITHUB / "ISSUE_TEMPLATE" / "contribution.yml")
    assert {"name", "description", "body"} <= set(form)
    ids = [field["id"] for field in form["body"] if field["type"] != "markdown"]
    assert len(ids) == len(set(ids)) and {"kind", "category", "licence", "environment", "duties"} <= set(ids)
    template = (GITHUB / "pull_request_template.md").read_text(encoding="utf-8")
    assert template.count("- [ ] ") >= 6 and "scripts/check_contribution.py" in template
    for name in ("contributing-data.md", "contributing-data.ko.md"):
        assert f"docs/{name}" in template and (ROOT / "docs" / name).exists()


def test_both_guides_have_the_same_commands_and_sections() -> None:
    english, korean = (
        (ROOT / "docs" / f"contributing-data{end}").read_text(encoding="utf-8") for end in (".md", ".ko.md")
    )
    for pattern in (r"^```bash\n(.*?)^```", r"^(#+) ", r"^- (\[ \])"):
        parts = [re.findall(pattern, text, re.MULTILINE | re.DOTALL) for text in (english, korean)]
        assert parts[0] and [re.sub(r"#.*", "", p) for p in parts[0]] == [re.sub(r"#.*", "", p) for p in parts[1]]
    assert set(re.findall(r"\b[EW]\d{3}\b", english)) == set(re.findall(r"\b[EW]\d{3}\b", korean))
