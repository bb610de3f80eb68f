"""The documents of a release: dataset card, attribution, changelog, Croissant metadata and pictures.

All are made from the manifest's content alone, so that the same records give the same bytes. What records say (names of
sources and tools) is escaped, because a card is shown as Markdown and HTML on a hub.
"""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

from data.records import KOREAN_CATEGORIES, Category, Outcome, trajectory_json_schema
from data.release.changes import Changes
from data.release.licences import ALLOWED, DEMANDS_NO_NAME
from data.release.manifest import FIELDS, ReleasedFile, ReleaseSource, data_path

KOREAN_NAMES = {category: name for name, category in KOREAN_CATEGORIES.items()}

_SIZES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (1e7, "1M<n<10M"))
_HUB_LICENCES = {
    "PDDL-1.0": "pddl",
    "ODC-By-1.0": "odc-by",
    "MIT-0": "other",
    "0BSD": "other",
}
"""The hub's names of licences, where they are not the SPDX identifier in small letters."""


def text_to_markdown(text: str) -> str:
    """Text that shows as itself within a line or a cell of Markdown: no markup, no HTML, no line break."""
    flat = re.sub(r"\s+", " ", text).strip()
    escaped = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~!])", r"\\\1", escaped)


def _link(text: str, url: str) -> str:
    plain = text_to_markdown(text)
    # Only what cannot end the link or run a script.
    return f"[{plain}]({url})" if re.fullmatch(r"https?://[^\s()<>\"'\\]+", url) else plain


def _table(head: list[str], rows: list[list[object]]) -> str:
    lines = [head, ["---"] * len(head), *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_documents(
    folder: Path,
    facts: dict[str, Any],
    files: list[ReleasedFile],
    *,
    creator: str,
    url: str | None,
    changes: Changes | None,
    old_changelog: str,
) -> list[str]:
    """Write every document into the folder; returns their paths.

    Args:
        facts: the fields of the manifest that are known by now.
        files: the entries of the data files.
        old_changelog: text of the version before, or an empty string.
    """
    schema = json.dumps(trajectory_json_schema(), ensure_ascii=False, indent=2) + "\n"
    croissant = json.dumps(_croissant(facts, files, creator, url), ensure_ascii=False, indent=2) + "\n"
    texts = {
        "README.md": _card(facts, files, changes),
        "ATTRIBUTION.md": _attribution(facts),
        "CHANGELOG.md": _changelog(facts, changes, old_changelog),
        "croissant.json": croissant,
        "trajectory.schema.json": schema,
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return [*texts, *_write_pictures(folder, facts["statistics"])]


# ---- README.md ----


def _card(facts: dict[str, Any], files: list[ReleasedFile], changes: Changes | None) -> str:
    from huggingface_hub import DatasetCard, DatasetCardData  # noqa: PLC0415 - slow to import

    numbers, name, version = facts["statistics"], facts["name"], facts["version"]
    categories = [category for category in Category if category in numbers["outcomes"]]
    data = DatasetCardData(
        pretty_name=f"{name} {version}",
        language=[code for code in numbers["languages"] if re.fullmatch(r"[a-z]{2,3}", code)] or None,
        license=sorted({_HUB_LICENCES.get(s.licence, s.licence.lower()) for s in facts["sources"]}),
        size_categories=[next((text for limit, text in _SIZES if numbers["records"] < limit), "n>10M")],
        task_categories=["text-generation"],
        tags=["tool-use", "agents", "trajectories", "function-calling"],
        configs=[
            {"config_name": "default", "data_files": "data/*.parquet", "default": True},
            *({"config_name": str(category), "data_files": data_path(category, "parquet")} for category in categories),
        ],
    )
    outcomes = [
        [f"{category} ({KOREAN_NAMES[category]})", *counts.values(), sum(counts.values())]
        for category in categories
        for counts in [numbers["outcomes"][category]]
    ]
    text = f"""# {name} {version}

Records of agents using tools: each action with its input, output and error, and how the task ended.

{_table(["category", *Outcome, "records"], [list(row) for row in outcomes])}

![Records by category and outcome](pictures/outcomes.png)

![Actions per record](pictures/actions.png)

{_table(["statistic", "value"], _statistic_rows(numbers))}

## Reading it

```python
import json
from datasets import load_dataset

rows = load_dataset("parquet", data_files="data/*.parquet", split="train")
actions = json.loads(rows[0]["action_sequence"])
```

Each category has two files with the same records, sorted by `id`:

{_table(["file", "records", "bytes"], [[f"`{file.path}`", file.rows, file.bytes] for file in files])}

JSON Lines holds the records as they are ([schema](trajectory.schema.json), version {facts["schema_version"]}). In Parquet
the nested fields `environment`, `action_sequence` and `metadata` are JSON text, because columns of structs would give each
record the keys of all others, filled with null.

## Proving what you hold

`MANIFEST.json` has the SHA-256 of each file. Compare its `release_sha256` with the number that the publisher announced:

```bash
python -m data release verify . --sha256 NUMBER
```

Without tooltune: `jq -r '.files[] | .sha256 + "  " + .path' MANIFEST.json | sha256sum -c`

## Licences and attribution

Each record is under the licence of its source. Who has to be named stands in [ATTRIBUTION.md](ATTRIBUTION.md).

{_source_table(facts["sources"])}

## What changed

{_what_changed(facts, changes)} The history stands in [CHANGELOG.md](CHANGELOG.md).

## What this cannot promise

Secrets and personal data with a known shape were searched for and none was left; names and addresses have no shape.
An outcome is what the record's source says. The numbers above describe these records and no other agents.
"""
    return str(DatasetCard(f"---\n{data.to_yaml()}\n---\n\n{text}"))


def _statistic_rows(numbers: dict[str, Any]) -> list[list[object]]:
    def listed(counts: dict[str, int]) -> str:
        most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        more = f" and {len(most) - 10} more" if len(most) > 10 else ""
        return ", ".join(f"{text_to_markdown(name)} {count}" for name, count in most[:10]) + more

    return [
        ["records", numbers["records"]],
        ["actions", numbers["actions"]],
        ["actions with an error", numbers["failed_actions"]],
        ["tools", listed(numbers["tools"])],
        ["languages", listed(numbers["languages"])],
        ["first and last timestamp (UTC)", f"{numbers['first_timestamp']} to {numbers['last_timestamp']}"],
    ]


def _source_table(sources: list[ReleaseSource]) -> str:
    rows = [[text_to_markdown(s.source), _link(s.licence, ALLOWED[s.licence]), s.rows] for s in sources]
    return _table(["source", "licence", "records"], [list(row) for row in rows])


# ---- ATTRIBUTION.md ----


def _attribution(facts: dict[str, Any]) -> str:
    """What CC-BY-4.0 section 3(a)(1) asks for, per source: who, where, which licence, and that it was changed."""
    entries = []
    for source in facts["sources"]:
        who = [text_to_markdown(name) for name in source.attribution] or [text_to_markdown(source.source)]
        lines = [f"- Named: {', '.join(who)}"]
        lines += [f"- From: {_link(url, url)}" for url in source.urls]
        duty = " (nobody has to be named)" if source.licence in DEMANDS_NO_NAME else ""
        lines += [f"- Licence: {_link(source.licence, ALLOWED[source.licence])}{duty}", f"- Records: {source.rows}"]
        entries.append(f"## {text_to_markdown(source.source)}, {source.licence}\n\n" + "\n".join(lines))
    return (
        f"# Attribution for {facts['name']} {facts['version']}\n\n"
        "The records below are changed: they were brought into one schema, checked, searched for secrets and personal\n"
        "data, and sorted. Their authors give no endorsement and no warranty.\n\n" + "\n\n".join(entries) + "\n"
    )


# ---- CHANGELOG.md ----


def _what_changed(facts: dict[str, Any], changes: Changes | None) -> str:
    if changes is None:
        return "This is the first version."
    since = facts["previous"].version
    if not changes.sentences():
        return f"The records are those of {since}."
    return f"Since {since}: " + "; ".join(text_to_markdown(sentence) for sentence in changes.sentences()) + "."


def _changelog(facts: dict[str, Any], changes: Changes | None, old: str) -> str:
    title = "# Changelog\n\n"
    if changes is None:
        lines = [f"First version: {facts['statistics']['records']} records."]
    else:
        lines = [text_to_markdown(sentence) for sentence in changes.sentences()] or ["No record changed."]
        lines += [f"Licence added: {name}" for name in changes.licences_added]
        lines += [f"Licence no longer used: {name}" for name in changes.licences_removed]
        lines = [f"Since {facts['previous'].version}:", "", *(f"- {line}" for line in lines)]
    return (
        f"{title}## {facts['version']} - {facts['date']}\n\n"
        + "\n".join(lines)
        + "\n"
        + ("\n" + old.removeprefix(title) if old else "")
    )


# ---- croissant.json ----

_CROISSANT_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context that the Croissant 1.0 specification prescribes (https://docs.mlcommons.org/croissant/docs/croissant-spec.html)."""

_MEDIA_TYPES = {"jsonl": "application/jsonlines", "parquet": "application/x-parquet"}
_FIELD_TEXTS = {
    "id": "Unique within the release.",
    "category": "Kind of tool work.",
    "timestamp": "When the task began, ISO 8601 with its zone.",
    "environment": "Where the actions ran, as JSON text.",
    "tool": "The toolset in use.",
    "action_sequence": "Each call with its result, as JSON text.",
    "outcome": "success, failure or partial.",
    "metadata": "Instruction, tool definitions, source, licence and more, as JSON text.",
}


def _croissant(facts: dict[str, Any], files: list[ReleasedFile], creator: str, url: str | None) -> dict[str, Any]:
    name, version, released = facts["name"], facts["version"], facts["date"]
    assert isinstance(released, date)
    address = {"url": url} if url else {}
    return {
        "@context": _CROISSANT_CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": f"{facts['statistics']['records']} records of agents using tools, each action with its result.",
        "version": version,
        "datePublished": released.isoformat(),
        "license": sorted({ALLOWED[source.licence] for source in facts["sources"]}),
        "creator": {"@type": "sc:Organization", "name": creator, **address},
        "citeAs": f"{creator}: {name}, version {version} ({released.year})" + (f", {url}" if url else ""),
        **address,
        "keywords": ["tool use", "agents", "trajectories"],
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": file.path,
                "name": file.path,
                "contentUrl": file.path,
                "contentSize": f"{file.bytes} B",
                "encodingFormat": _MEDIA_TYPES[file.path.rpartition(".")[2]],
                "sha256": file.sha256,
            }
            for file in files
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": category,
                "name": category,
                "description": f"{file.rows} records of category {category}.",
                "key": {"@id": f"{category}/id"},
                "field": [
                    {
                        "@type": "cr:Field",
                        "@id": f"{category}/{field}",
                        "name": f"{category}/{field}",
                        "description": _FIELD_TEXTS[field],
                        "dataType": "sc:Text",
                        "source": {"fileObject": {"@id": file.path}, "extract": {"column": field}},
                    }
                    for field in FIELDS
                ],
            }
            for file in files
            if (category := file.path.removeprefix("data/").removesuffix(".parquet")) in list(Category)
        ],
    }


# ---- pictures ----

_COLOURS = {Outcome.SUCCESS: "#2e7d4f", Outcome.PARTIAL: "#d9a441", Outcome.FAILURE: "#b5483a"}


def _write_pictures(folder: Path, numbers: dict[str, Any]) -> list[str]:
    from matplotlib import rc_context, rcdefaults  # noqa: PLC0415 - slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    def save(figure: Figure, path: str) -> str:
        (folder / path).parent.mkdir(exist_ok=True)
        figure.savefig(folder / path, dpi=120, metadata={"Software": None})
        return path

    with rc_context():
        rcdefaults()  # the builder's own style must not change the bytes
        categories = [category for category in Category if category in numbers["outcomes"]]
        outcomes = Figure(figsize=(7, 1.2 + 0.5 * len(categories)), layout="constrained")
        axes = outcomes.subplots()
        left = [0] * len(categories)
        for outcome, colour in _COLOURS.items():
            widths = [numbers["outcomes"][category][outcome] for category in categories]
            axes.barh([str(category) for category in categories], widths, left=left, color=colour, label=str(outcome))
            left = [a + b for a, b in zip(left, widths, strict=True)]
        axes.invert_yaxis()
        axes.set_xlabel("records")
        axes.legend(frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))

        actions = Figure(figsize=(7, 3), layout="constrained")
        lengths = {int(length): count for length, count in numbers["actions_per_record"].items()}
        plot = actions.subplots()
        plot.bar(list(lengths), list(lengths.values()), color="#4a6fa5", width=0.9)
        plot.set_xlabel("actions in a record")
        plot.set_ylabel("records")
        for each in (axes, plot):
            each.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        plot.xaxis.set_major_locator(MaxNLocator(integer=True))
        plot.yaxis.set_major_locator(MaxNLocator(integer=True))
        return [save(outcomes, "pictures/outcomes.png"), save(actions, "pictures/actions.png")]
