"""Adapters: one small function per dataset or format, from a row to a `Chat`, a `PreferencePair` or a `Skip`.

    from data.formats.catalogue import adapter_named
    from data.formats.reading import adapt

    for result in adapt(adapter_named("openai_chat"), {"messages": [...]}):
        ...

Rules that every adapter keeps:

* It copies an allow-list of fields, so a row can change neither a template nor an option.
* What a `Chat` or a pair cannot hold is a `Skip` with a short reason without row details, never a guess. With
  `@skip_if_unrepresentable` (data/formats/parts.py) it is enough to raise `Unrepresentable(reason)`.
* It returns one result, or a list where one row holds several (the paths of a message tree, the pairs of four ranked
  answers). The list is never empty: a row that gives nothing is a `Skip`. Counts are of results.
* It leaves `licence` and `group` null where the row says nothing, and `source` empty, or the row's own name of the part
  it came from ("apigen-80k"). `adapt` writes the adapter's name before it ("smoltalk/apigen-80k") and fills the licence.

* Keys that mean the same in every format (labels, weights, sides of pairs, media, system prompts, licences) are none of its
  business: data/formats/row_keys.py obeys them. `columns`, `turns` and `turn_keys` declare what it reads, so that the rest can
  be told; `harmless` what it does not read and knows to say nothing.

To add one: write `def my_set_row(row: Row) -> Chat | Skip` in the file of its family and its entry at that file's end, then
tests/samples/my_set.jsonl in the exact published schema with its corner cases (empty answer, system turn, extra columns,
null fields, odd role order, Korean, every optional column filled once). `python tests/support/golden.py my_set` writes what
comes out of each row into tests/samples/my_set.expected.json and shows it: read it against what the format means before you
commit it. One test runs over all of them. Several datasets of one format are several lines with one function. Then
`python -m data adapters --markdown --out docs/dataset-catalogue.md`.

`matches` is how `--adapter auto` recognises the first rows of a file: it says why they are of this format, or returns null;
`with_columns("a", "b")` is enough for most. Of several that fit, the one that rests on the most columns wins; where two rest
on equally many, `auto` refuses. Give one only where the rows themselves show it: a dataset in a format that many share has
none, and is named by its hub id or by the user; its my_set.expected.json then says what `auto` takes its rows for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from data.chats import Result, Skip
from data.formats.parts import Fit, LoggedRun, Row
from data.formats.row_keys import Reader
from data.formats.traces import Spans


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Under which terms a published dataset may be used, as its publisher states them."""

    licence: str | None = None
    """Licence of that dataset as its publisher writes it; null where none is stated, or each file has its own."""
    gated: bool = False
    """Its terms have to be accepted on the hub before it can be read."""
    non_commercial: bool = False
    openai_derived: bool = False
    """Answers were written by a model of OpenAI, whose terms forbid training competing models on them."""


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """One dataset or format: what its rows are, where they come from, and the function that reads one."""

    name: str
    kind: Literal["chat", "pair", "trajectory"]
    """What a row is. A trajectory becomes a chat; which outcomes are imitated is chosen where it is read."""
    function: Callable[[Row], Result | Sequence[Result]]
    columns: tuple[str, ...]
    """Columns that are read. Of all others, data/formats/row_keys.py knows those that change what a row means, and the rest
    is counted as not read."""
    turns: tuple[str, ...] = ()
    """Columns that hold turns: one object, a list of them, or the JSON text of one."""
    turn_keys: frozenset[str] = frozenset()
    """Keys of a turn that are read."""
    harmless: frozenset[str] = frozenset()
    """Columns that are not read and change nothing here, though their names mean something in other files."""
    any_spelling: bool = False
    """Its columns are read in any spelling: `rejectedResponse`, `Rejected Response`."""
    reads_all: bool = False
    """Its function decides over every key by itself: formats of ours, which refuse an unknown one, and functions of a user."""
    called: str | None = None
    """What rows are called that name no source themselves; null takes the name of the adapter."""
    runs: Callable[[Row], Sequence[LoggedRun | Skip]] | None = None
    """For a format that tells which calls failed: a row as runs, whatever their outcome. KPIs are measured on these."""
    hub_id: str | None = None
    """Dataset on the Hugging Face Hub, or null for a format that many files share."""
    terms: Terms = Terms()
    matches: Callable[[Sequence[Row]], Fit | None] | None = None
    """Whether the first rows of a file are of this format, and why. Must bear rows of any other format."""
    group_by: str | None = None
    """Column of flat rows of which one thing is many rows (the messages of a tree): neighbouring rows with an equal value
    reach `function` together, as `{"rows": [...]}`."""
    whole_file: bool = False
    """Whether a file is one thing of which each line is a part, such as the log of a session: all its rows reach `function`
    together, as `{"rows": [...], "holes": [...]}` (`data.formats.inputs.whole_files`)."""
    is_log: bool = False
    """Whether rows are logs of somebody's own machine, in which secrets become placeholders as they are read."""
    not_read: Callable[[Row], str | None] | None = None
    """What a row of such a file is called that is no part of what is read, or null; it is counted under that name."""
    spans: Spans | None = None
    """For a trace format: a row as the spans that it holds, which reach `function` one by one. Spans of one conversation are
    read together, wherever they stand (data/formats/traces.py)."""
    of_conversation: Callable[[Sequence[Row]], Sequence[Row]] | None = None
    """For a trace format: the spans of a conversation with what only all of them tell of each."""
    schema: Literal["real rows", "public pages", "recalled"] = "recalled"
    """How the columns are known: seen in real rows, read on public pages, or recalled and not yet settled."""
    note: str = ""
    """What a user should know before using it: what is left out by what rule, or why something cannot be read."""

    @property
    def joins_rows(self) -> bool:
        """Whether `function` takes many rows at once."""
        return self.group_by is not None or self.whole_file

    @property
    def is_dataset(self) -> bool:
        """Whether it is one published dataset and not a format that anybody's files may have."""
        return self.hub_id is not None or self.terms.openai_derived

    def of_unknown_origin(self, called: str) -> Adapter:
        """The same layout in a file that may be anybody's: columns give neither a name nor a licence."""
        return replace(
            self,
            hub_id=None,
            terms=Terms(),
            called=called,
        )

    @cached_property
    def reader(self) -> Reader:
        """What is known of its rows."""
        return Reader(
            columns=frozenset((*self.columns, "id")),
            turns=self.turns,
            turn_keys=self.turn_keys,
            harmless=self.harmless,
            is_own=not self.is_dataset,
            is_pair=self.kind == "pair",
        )
