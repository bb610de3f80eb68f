"""Which tests are quick, and what keeps them so. `scripts/test --quick` runs these and no others.

A quick test starts no process, opens no port and trains nothing. A file is named here with all its tests, but for those in
`NOT_QUICK`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

QUICK_FILES = frozenset(
    [
        "adapter_samples",
        "adapters",
        "assistant_text",
        "call_ids",
        "code_keys",
        "compare",
        "curation_contamination",
        "curation_duplicates",
        "curation_filters",
        "curation_pipeline",
        "data_cli",
        "docs",
        "failures",
        "inputs",
        "kpis",
        "layout",
        "mixture",
        "model_folders",
        "options",
        "plan",
        "preference_adapters",
        "quality",
        "quick",
        "records",
        "render",
        "replies",
        "row_keys",
        "sessions",
        "stages",
        "tool_adapters",
        "traces",
        "trajectories",
        "turns",
        "validate",
    ]
)
"""NAME of tests/test_NAME.py."""
NOT_QUICK = frozenset(
    [
        "test_a_huge_line_is_never_loaded",
        "test_an_endless_row_is_refused",
        "test_parquet_that_holds_far_more_than_its_size_is_refused",
        "test_killed_in_the_middle_it_runs_again_and_may_go_on",
        "test_an_executor_of_datatrove_gives_the_same_bytes_and_its_markers",
        "test_neither_workers_nor_shards_change_a_byte",
        "test_columns_give_no_name_and_no_licence",
        "test_records_of_training_tasks_raise_no_alarm",
        "test_commands_run_where_torch_cannot_be_imported",
        "test_help_answers_at_once_and_without_torch",
        "test_what_is_told_does_not_depend_on_the_workers",
        "test_a_folder_of_chats_and_pairs_is_refused_with_both_lists",
    ]
)
"""Tests of these files that do start one, or take many seconds, by their names."""

_EVENTS = frozenset(
    ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.exec", "os.system", "socket.bind")
)
_watches: list[list[str]] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watches and event in _EVENTS:
        told = f"{event}{arguments[:2]!r:.200}"
        _watches[-1].append(told)
        raise AssertionError(f"a quick test may not do this, see tests/support/quick.py: {told}")


@contextmanager
def nothing_started() -> Iterator[list[str]]:
    """Within it a process or a port is an AssertionError; gives the list of what was tried, which may have been caught."""
    if _hook not in _installed:
        sys.addaudithook(_hook)  # there is no way to take one away again
        _installed.append(_hook)
    _watches.append([])
    try:
        yield _watches[-1]
    finally:
        _watches.pop()


_installed: list[Any] = []
