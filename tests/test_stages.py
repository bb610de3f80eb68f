"""A stage is done while its key, what it read and what it made are unchanged; everything else runs it again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.files import code_sha256, file_sha256
from core.stages import Marker


class Sorting:
    """A stage that sorts a file's lines, as a command would run it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.source, self.out = folder, folder / "줄.txt", folder / "made" / "정렬.txt"
        self.options: dict[str, Any] = {"--reverse": False}
        self.times = 0
        (folder / "code").mkdir(parents=True)
        (folder / "code" / "sort.py").write_text("sorted(lines)\n")
        self.source.write_text("나\n가\n", encoding="utf-8")
        self.out.parent.mkdir()

    @property
    def marker(self) -> Marker:
        return self.marker_in(self.folder)

    def marker_in(self, folder: Path) -> Marker:
        read = {"code": code_sha256(folder, ["code/*"]), "줄.txt": file_sha256(folder / "줄.txt")}
        return Marker(folder / ".stages" / "sort.json", self.options | read)

    def run(self, *, during: Callable[[], object] = lambda: None) -> list[str] | None:
        """Run it if it is not done; what was said to have changed."""
        changes = self.marker.changes()
        if changes != []:
            self.marker.begin()
            self.times += 1
            self.out.write_text(
                "".join(sorted(self.source.read_text(encoding="utf-8").splitlines(keepends=True))), "utf-8"
            )
            during()
            self.marker.finish([self.out], seconds=1)
        return changes


@pytest.fixture
def sorting(tmp_path: Path) -> Sorting:
    return Sorting(tmp_path / "work")


def test_unchanged_it_runs_once(sorting: Sorting) -> None:
    assert sorting.run() is None
    os.utime(sorting.out, (1, 1))
    assert sorting.run() == [] and sorting.run() == [] and sorting.times == 1


def new_code(sorting: Sorting) -> None:
    (sorting.folder / "code" / "sort.py").write_text("sorted(lines) \n")


def new_input(sorting: Sorting) -> None:
    sorting.source.write_text("나\n가\n다\n", encoding="utf-8")


def new_option(sorting: Sorting) -> None:
    sorting.options["--reverse"] = True


def further_option(sorting: Sorting) -> None:
    sorting.options["--unique"] = None


def edited_output(sorting: Sorting) -> None:
    sorting.out.write_text("가\n", encoding="utf-8")


def missing_output(sorting: Sorting) -> None:
    sorting.out.unlink()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (new_code, "code: "),
        (new_input, "줄.txt: "),
        (new_option, "--reverse: false -> true"),
        (further_option, "--unique: null -> null"),
        (edited_output, "정렬.txt is another"),
        (missing_output, "정렬.txt is missing"),
    ],
)
def test_a_change_is_named_and_runs_it_again(sorting: Sorting, change: Callable[[Sorting], None], told: str) -> None:
    sorting.run()
    change(sorting)
    assert not sorting.marker.was_broken_off()  # what lies there is no half of this one
    changes = sorting.run()
    assert changes is not None and len(changes) == 1 and told in changes[0]
    assert sorting.out.read_text(encoding="utf-8").startswith("가\n나\n")
    assert sorting.run() == [] and sorting.times == 2


@pytest.mark.parametrize("runs_before", [0, 1])
def test_killed_in_the_middle_it_runs_again_and_may_go_on(sorting: Sorting, runs_before: int) -> None:
    if runs_before:
        sorting.run()
        new_input(sorting)
    child = os.fork()
    if not child:
        sorting.run(during=lambda: os.kill(os.getpid(), signal.SIGKILL))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert sorting.out.exists()  # and yet it is not done
    assert sorting.marker.was_broken_off()
    assert sorting.run() is None
    assert not sorting.marker.was_broken_off() and sorting.run() == []


def test_what_was_begun_of_something_else_is_not_gone_on_with(sorting: Sorting) -> None:
    sorting.marker.begin()
    new_option(sorting)
    assert not sorting.marker.was_broken_off() and sorting.marker.changes() is None


def test_it_does_not_finish_without_what_it_makes(sorting: Sorting) -> None:
    sorting.marker.begin()
    with pytest.raises(FileNotFoundError, match="정렬"):
        sorting.marker.finish([sorting.out])
    assert sorting.marker.changes() is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"made": 1}'])
def test_a_broken_marker_counts_as_none(sorting: Sorting, text: str) -> None:
    sorting.run()
    sorting.marker.path.write_text(text)
    assert sorting.run() is None and sorting.times == 2


def test_a_folder_can_be_moved_with_its_markers(sorting: Sorting, tmp_path: Path) -> None:
    sorting.run()
    sorting.folder.rename(tmp_path / "moved")
    assert sorting.marker_in(tmp_path / "moved").changes() == []
