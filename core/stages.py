"""Work in stages: one is done while what it was made of and what it made are unchanged.

    marker = Marker(out / ".stages" / "sort.json", {"code": code_sha256(...), "rows.csv": file_sha256(...)})
    if marker.changes() != []:                  # None where it never finished, otherwise what has changed
        if not marker.was_broken_off():         # of the very same, so that what is there can be gone on with
            ...
        marker.begin()
        ...
        marker.finish([out / "sorted.csv"])

A marker says `finished` only after all is made, and stops saying so before anything is made again: a kill in between leaves a
stage that runs again. Paths in it are told from its own folder, so that a folder with its markers can be moved.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.files import file_sha256, read_json, write_json


def file_fingerprint(path: Path) -> str | None:
    """sha256 of a file; null where none is."""
    return file_sha256(path) if path.is_file() else None


@dataclass(frozen=True)
class Marker:
    """What a stage leaves behind, so that the next start knows whether it has to run."""

    path: Path
    made_of: Mapping[str, Any]
    """Everything that decides what it makes, by name: options, code, the contents it reads. Values of JSON."""
    fingerprint: Callable[[Path], str | None] = file_fingerprint
    """What tells one output from another; null for what is not there."""

    def changes(self) -> list[str] | None:
        """What has changed since it finished, one line each, none if it is done; null if it never finished."""
        earlier = read_json(self.path)
        made = earlier.get("made")
        if not isinstance(made, dict):
            return None
        old, new = earlier.get("made_of") or {}, _json(self.made_of)
        changed = [
            f"{name}: {_short(old.get(name))} -> {_short(new.get(name))}"
            for name in dict.fromkeys([*old, *new])
            if name not in old or name not in new or old[name] != new[name]
        ]
        for name, value in made.items():
            path = Path(os.path.normpath(self.path.parent / name))
            now = self.fingerprint(path)
            if now != value:
                changed.append(f"{path} is {'missing' if now is None else 'another'}")
        return changed

    def was_broken_off(self) -> bool:
        """Whether what lies there was begun of the very same and not finished."""
        earlier = read_json(self.path)
        return "made" not in earlier and earlier.get("made_of") == _json(self.made_of)

    def begin(self) -> None:
        """From now on it is not done, and what it makes is made of this."""
        write_json(self.path, {"made_of": _json(self.made_of)})

    def finish(self, makes: Iterable[Path], **about: Any) -> None:
        """All is made; `about` is kept beside it.

        Raises:
            FileNotFoundError: naming what should be there and is not.
        """
        made = {}
        for path in makes:
            value = self.fingerprint(path)
            if value is None:
                raise FileNotFoundError(path)
            made[os.path.relpath(path, self.path.parent)] = value
        write_json(self.path, {**about, "made_of": _json(self.made_of), "made": made})


def _json(values: Mapping[str, Any]) -> dict[str, Any]:
    """As it reads when it comes back from a file."""
    loaded: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return loaded


def _short(value: Any) -> str:
    text = " ".join(value) if isinstance(value, list) and all(isinstance(v, str) for v in value) else json.dumps(value)
    text = text.strip('"')
    return text[:12] if len(text) == 64 else text if len(text) <= 80 else f"{text[:80]}..."
