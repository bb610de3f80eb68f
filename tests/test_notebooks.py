"""The notebooks run from top to bottom on the tiny model, and their two forms hold the same cells."""

from __future__ import annotations

import re
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.py"))
SECONDS = 120


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads of so small a model mostly wait for each other, above all where other tests run beside this one."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_there_are_three_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["01_look_at_data", "02_train_and_compare", "03_your_own_tools"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_both_forms_hold_the_same_cells_and_no_output(path: Path) -> None:
    text = jupytext.read(path)
    notebook = nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    nbformat.validate(notebook)
    cells = [(cell.cell_type, cell.source, cell.metadata.get("tags")) for cell in notebook.cells]
    assert cells == [(cell.cell_type, cell.source, cell.metadata.get("tags")) for cell in text.cells], (
        f"run: jupytext --to ipynb {path}"
    )
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_notebook_starts_a_process(path: Path) -> None:
    assert not re.search(
        r"subprocess|os\.system|get_ipython|^\s*[!%](?!%)", path.read_text(encoding="utf-8"), re.MULTILINE
    )


def run_notebook(path: Path, out: Path, *, folder: Path) -> nbformat.NotebookNode:
    """Run a notebook from `folder`, with what it makes in `out`."""
    notebook = nbformat.read(path, as_version=4)
    at = next(n for n, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    assert re.search(r"^OUT = ", notebook.cells[at].source, re.MULTILINE)
    notebook.cells.insert(at + 1, nbformat.v4.new_code_cell(f"OUT = Path({str(out)!r})"))
    # The limit is for each cell; the sum is looked at by pytest's own.
    NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def printed(notebook: nbformat.NotebookNode) -> str:
    """Everything that went to the standard streams."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def shown(notebook: nbformat.NotebookNode, kind: str) -> list[str]:
    """Everything that was displayed as `kind`, such as text/html."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return [output.data[kind] for output in outputs if kind in output.get("data", {})]


@pytest.mark.timeout(SECONDS)
def test_looking_at_data_shows_chat_tokens_fork_and_pictures(tiny_model: Path, tmp_path: Path) -> None:
    path = NOTEBOOKS[0].with_suffix(".ipynb")
    notebook = run_notebook(path, tmp_path, folder=path.parent)  # as Jupyter does, from the notebook's own folder
    assert "48 good records, 0 bad lines" in printed(notebook)
    table, tokens, fork = shown(notebook, "text/html")
    assert "<td" in table
    assert "class=&quot;context&quot;" in tokens and "class=&quot;chat&quot;" in tokens
    assert "class=&quot;chosen&quot;" in fork and "class=&quot;rejected&quot;" in fork
    assert shown(notebook, "image/png")


@pytest.mark.timeout(SECONDS)
def test_training_in_a_notebook_learns_and_compares(tiny_model: Path, tmp_path: Path) -> None:
    path = NOTEBOOKS[1].with_suffix(".ipynb")
    root = path.parents[1]
    notebook = run_notebook(path, tmp_path, folder=root)
    first, last = map(float, re.search(r"loss ([\d.]+) -> ([\d.]+)", printed(notebook)).groups())  # type: ignore[union-attr]
    assert last < first
    assert (tmp_path / "sft" / "adapter_model.safetensors").exists()
    assert shown(notebook, "image/png")
    table = shown(notebook, "text/html")[-1]
    assert "<th>base</th><th>sft</th>" in table and "success_rate" in table and "%" in table


@pytest.mark.timeout(3 * SECONDS)
def test_own_tools_come_from_a_class_to_a_leaderboard(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))  # where grants of trust are kept
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "config"))
    path = NOTEBOOKS[2].with_suffix(".ipynb")
    notebook = run_notebook(path, tmp_path, folder=path.parent)
    text = printed(notebook)
    assert "take_pieces: Take pieces out of a box" in text and "12 records" in text
    assert re.search(r"sft against base: .* points .*within chance", text)
    assert (tmp_path / "leaderboard" / "index.html").exists()
    assert "<th>base</th><th>sft</th><th>base-3-shot</th>" in shown(notebook, "text/html")[-1]
