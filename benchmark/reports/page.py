"""Templates -> pages that need no server, no network and no build step.

Jinja escapes whatever a template shows, so nothing that a record, a model or a file says can become markup. A content
security policy stands behind that: only the style and the script of `pages/` may run, known by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from benchmark.reports.compare import describe
from benchmark.runs.shown import interval, kpi_to_text, percent, points, title_of
from data.trajectories import output_to_text

FOLDER = Path(__file__).with_name("pages")
SHOWN_CHARACTERS = 6_000

_CONTROL = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}
"""Control characters as the signs that stand for them: a page shows what a terminal would obey."""
_HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]")


def render(template: str, **values: Any) -> str:
    """The text of a page, made from a template of `pages/`."""
    return _ENVIRONMENT.get_template(template).render(**values)


def file_names(names: Iterable[str], ending: str = "", *, taken: Iterable[str] = ()) -> dict[str, str]:
    """A file name for each name, safe everywhere and unique, also where upper and lower case are the same."""
    used = {each.casefold() for each in taken}
    found: dict[str, str] = {}
    for name in names:
        stem = re.sub(r"[^\w.-]+", "-", name).strip(".-")[:60] or "unnamed"
        number, file = 1, stem + ending
        while file.casefold() in used:
            number += 1
            file = f"{stem}-{number}{ending}"
        used.add(file.casefold())
        found[name] = file
    return found


def _visible(value: Any) -> Any:
    return value.translate(_CONTROL) if isinstance(value, str) and not isinstance(value, Markup) else value


def _language(text: str) -> Markup:
    """` lang="ko"` where a text holds Korean, so that its letters come from a Korean font and lines break at words."""
    return Markup(' lang="ko"' if _HANGUL.search(text) else "")


def _span(value: object) -> Markup:
    """A text of unknown language and direction within a line."""
    text = str(value)
    return Markup("<bdi{}>{}</bdi>").format(_language(text), _visible(text))


def _block(value: object, kind: str = "") -> Markup:
    """A text as it was written, line by line; of a very long one its two ends."""
    text = str(value)
    if len(text) > SHOWN_CHARACTERS:
        half, left_out = SHOWN_CHARACTERS // 2, len(text) - SHOWN_CHARACTERS
        text = f"{text[:half]}\n\n[... {left_out:,} characters are not shown ...]\n\n{text[-half:]}"
    return Markup('<pre class="{}"{} dir="auto">{}</pre>').format(kind, _language(text), _visible(text))


def _json(value: object) -> str:
    """JSON on one line where that is short, else one field a line."""
    line = json.dumps(value, ensure_ascii=False)
    return line if len(line) <= 88 else json.dumps(value, ensure_ascii=False, indent=2)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = ((FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    environment.filters |= {"span": _span, "block": _block, "language": _language, "points": points, "percent": percent}
    environment.filters |= {"json": _json, "output": output_to_text}
    environment.globals |= {
        "style": Markup(style),
        "script": Markup(script),
        "policy": f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; "
        "base-uri 'none'; form-action 'none'",
        "describe": describe,
        "interval": interval,
        "kpi_to_text": kpi_to_text,
        "title_of": title_of,
    }
    return environment


def _source(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


_ENVIRONMENT = _environment()
