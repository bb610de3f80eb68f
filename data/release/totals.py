"""What a release's manifest says about its records: counted when it is built, and again when it is verified."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from data.records import Category, Outcome, Trajectory
from data.release.changes import collect_fields
from data.release.licences import DEMANDS_NO_NAME, licence_to_spdx
from data.release.manifest import Part, ReleaseSource

NOT_STATED = "not stated"

_licence_to_spdx = lru_cache(maxsize=1024)(licence_to_spdx)


class Totals:
    """Statistics, fields and sources of the records that were added so far."""

    def __init__(self) -> None:
        self.fields: dict[str, set[str]] = {}
        self._outcomes: dict[Category, Counter[Outcome]] = defaultdict(Counter)
        self._parts: dict[Category, Counter[tuple[str, str]]] = defaultdict(Counter)
        self._named: dict[tuple[str, str], tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
        self._tools, self._languages, self._lengths = Counter[str](), Counter[str](), Counter[int]()
        self._failed_actions = 0
        self._times: list[datetime] = []

    def add(self, record: Trajectory, value: dict[str, Any]) -> str:
        """Count one record, given as a checked record and as the object that is written; returns its SPDX licence.

        Raises:
            ValueError: if its licence does not allow a release, or demands to name a source that it does not have.
        """
        licence = _licence_of(record)
        source = record.metadata.source or NOT_STATED
        if source == NOT_STATED and licence not in DEMANDS_NO_NAME:
            raise ValueError(f"field 'metadata.source' is missing, and {licence} demands that the source is named")
        try:
            moment = record.timestamp.astimezone(UTC)
        except OverflowError:
            raise ValueError("field 'timestamp' is outside the years 1 to 9999 in UTC") from None
        attribution, urls = (_texts(record, name) for name in ("attribution", "source_url"))
        collect_fields(self.fields, value)
        self._outcomes[record.category][record.outcome] += 1
        self._parts[record.category][source, licence] += 1
        names, addresses = self._named[source, licence]
        names.update(attribution)
        addresses.update(urls)
        self._tools[record.tool] += 1
        self._languages[record.metadata.language or NOT_STATED] += 1
        self._lengths[len(record.action_sequence)] += 1
        self._failed_actions += sum(action.error is not None for action in record.action_sequence)
        self._times = [min([*self._times, moment]), max([*self._times, moment])]
        return licence

    def parts(self, category: Category) -> list[Part]:
        """The sources of one category's records."""
        return [Part(source=s, licence=li, rows=rows) for (s, li), rows in sorted(self._parts[category].items())]

    def sources(self) -> list[ReleaseSource]:
        """The sources of all records."""
        rows = sum(self._parts.values(), Counter[tuple[str, str]]())
        return [
            ReleaseSource(source=s, licence=li, rows=rows[s, li], attribution=sorted(names), urls=sorted(urls))
            for (s, li), (names, urls) in sorted(self._named.items())
        ]

    def sorted_fields(self) -> dict[str, list[str]]:
        """Each field with the JSON types of its values."""
        return {name: sorted(types) for name, types in sorted(self.fields.items())}

    def statistics(self) -> dict[str, Any]:
        """Numbers for the card, the pictures and `release diff`."""
        first, last = (moment.isoformat().replace("+00:00", "Z") for moment in self._times)
        return {
            "records": sum(self._lengths.values()),
            "actions": sum(length * count for length, count in self._lengths.items()),
            "failed_actions": self._failed_actions,
            "first_timestamp": first,
            "last_timestamp": last,
            "outcomes": {
                str(category): {str(outcome): self._outcomes[category][outcome] for outcome in Outcome}
                for category in Category
                if category in self._outcomes
            },
            "tools": dict(sorted(self._tools.items())),
            "languages": dict(sorted(self._languages.items())),
            "actions_per_record": {str(length): count for length, count in sorted(self._lengths.items())},
        }

    def last_day(self) -> str:
        """Day (UTC) of the newest record."""
        return self._times[1].date().isoformat()


def _licence_of(record: Trajectory) -> str:
    if not record.metadata.licence:
        raise ValueError("field 'metadata.licence' is missing; expected an SPDX identifier such as CC-BY-4.0")
    try:
        return _licence_to_spdx(record.metadata.licence)
    except ValueError as error:
        raise ValueError(f"field 'metadata.licence': {error}") from None


def _texts(record: Trajectory, name: str) -> list[str]:
    """A key of the metadata that holds a text or several."""
    value = (record.metadata.model_extra or {}).get(name)
    texts = (
        [value] if isinstance(value, str) else value if isinstance(value, list) else [] if value is None else [value]
    )
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"field 'metadata.{name}': expected a text or a list of texts, got {value!r:.80}")
    return texts
