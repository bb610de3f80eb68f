"""What `python -m data validate` can find: one code for each way in which a contribution breaks.

E codes are errors: the line goes into quarantine. W codes are advice: the record is kept. The first digit is the layer
that found it: 1 bytes and lines, 2 JSON, 3 schema, 4 within a record, 5 across records, 6 advice.

docs/validation-codes.md is generated from this table by `python -m data validate --explain all`.
"""

from __future__ import annotations

from typing import NamedTuple

from core.errors import UserError, nearest


class Code(NamedTuple):
    """A way in which a line is wrong. `example` shows it, `fix` is what the contributor does."""

    name: str
    meaning: str
    example: str
    fix: str


CODES: dict[str, Code] = {
    # --- bytes and lines ---
    "E101": Code(
        "not-text",
        "The file is no text: it is compressed, or a Parquet, PDF, database or other binary file.",
        "a file that starts with the bytes 1f 8b (gzip)",
        "Unpack it (`gunzip FILE.jsonl.gz`) or export it as JSON Lines.",
    ),
    "E102": Code(
        "utf-16",
        "The file is UTF-16 or UTF-32. JSON Lines is UTF-8.",
        "a file that starts with the bytes ff fe, as some Windows programs save it",
        "`iconv -f UTF-16 -t UTF-8 FILE > NEW`",
    ),
    "E103": Code(
        "byte-order-mark",
        "The line starts with a UTF-8 byte-order mark (ef bb bf). RFC 8259 forbids it, and other readers see a broken first "
        "key. It also appears in the middle, where files were joined.",
        '\\ufeff{"id": "files-1", ...}',
        "`sed -i 's/^\\xEF\\xBB\\xBF//' FILE`, or save as UTF-8 without BOM.",
    ),
    "E104": Code(
        "carriage-return",
        "The line ends in CR LF, as on Windows. Hashes of such a file change when git or a web form converts it.",
        '{"id": "files-1", ...}\\r\\n',
        "`sed -i 's/\\r$//' FILE`, or dos2unix.",
    ),
    "E105": Code(
        "not-utf-8",
        "The line holds bytes that are no UTF-8, often Korean text in CP949 or EUC-KR. The message names the byte.",
        "the bytes c7 d1 (한 in CP949)",
        "`iconv -f CP949 -t UTF-8 FILE > NEW`",
    ),
    "E106": Code(
        "nul-byte",
        "The line holds a zero byte: the file was written by a crashed program, or is partly binary.",
        '{"id": "a\\x00"}',
        "Write the file again from its source.",
    ),
    "E107": Code(
        "line-too-long",
        "The line is longer than --max-line-bytes (8 MiB). It is skipped without being loaded into memory.",
        "a record that holds a whole video as base64",
        "Put large data into a file of its own and keep its name and hash in the record.",
    ),
    "E108": Code(
        "truncated-tail",
        "The file ends inside a record: a download, copy or write was cut off.",
        '{"id": "files-9", "category": "file-',
        "Copy the file again and compare its size or hash; do not just delete the last line.",
    ),
    "E109": Code(
        "too-many-records",
        "The file holds more lines than --max-records. The rest of it was not read.",
        "the 10,000,001st line",
        "Split the file (`split -l 1000000 FILE PART-`) or raise the limit.",
    ),
    "E110": Code(
        "empty-file",
        "The file holds no record: it has no bytes, or only blank lines.",
        "a file of 0 bytes",
        "Look at the program that wrote it; leave the file out.",
    ),
    "E111": Code(
        "git-lfs-pointer",
        "The file is a Git LFS pointer, not the data.",
        "version https://git-lfs.github.com/spec/v1",
        "`git lfs pull`, then check again.",
    ),
    "E112": Code(
        "merge-conflict",
        "The line is a conflict mark that git left behind.",
        "<<<<<<< HEAD",
        "Resolve the conflict: keep one side, remove the three marks.",
    ),
    # --- JSON ---
    "E201": Code(
        "not-json",
        "The line is no JSON. The message gives the column. Often: a trailing comma, single quotes (Python's repr), a comment.",
        "{'id': 'files-1'}",
        "Write rows with a JSON library, one `json.dumps(row, ensure_ascii=False)` a line.",
    ),
    "E202": Code(
        "nan-or-infinity",
        "NaN, Infinity or -Infinity: Python writes them, JSON has none, and other readers stop there.",
        '{"score": NaN}',
        "Write null, and say in another field why there is no number. `json.dumps(row, allow_nan=False)` finds the place.",
    ),
    "E203": Code(
        "duplicate-key",
        "One object holds the same key twice. Readers keep the first or the last, silently.",
        '{"id": "a", "id": "b"}',
        "Keep one of them.",
    ),
    "E204": Code(
        "lone-surrogate",
        "An escape from \\ud800 to \\udfff stands alone: half a character that UTF-8 cannot write. It comes from text "
        "that was cut in the middle of an emoji.",
        '{"text": "\\ud83d"}',
        "Cut text by characters, not by UTF-16 units or bytes.",
    ),
    "E205": Code(
        "nested-too-deeply",
        "Objects and lists stand inside one another deeper than --max-depth (64).",
        "[[[[...]]]]",
        "Flatten the value, or keep it as JSON text.",
    ),
    "E206": Code(
        "number-too-large",
        "A number does not fit: a float beyond 1.8e308, or an integer beyond 64 bits. Arrow, Parquet and JavaScript would "
        "change it.",
        '{"seed": 123456789012345678901234567890}',
        "Write identifiers as text.",
    ),
    "E207": Code(
        "several-values",
        "More stands behind the JSON value: two records on one line, or a comma between records.",
        '{"id": "a"}{"id": "b"}',
        "One record a line, with nothing between the lines but a line break.",
    ),
    "E208": Code(
        "not-an-object",
        "The line is JSON, but a list, text, number or null.",
        "[1, 2]",
        "A record is an object with the eight fields of docs/trajectory.schema.json.",
    ),
    "E209": Code(
        "not-json-lines",
        "The whole file is one JSON document, a list or an object over many lines, instead of one record a line.",
        "[\n  {...},\n  {...}\n]",
        "`jq -c '.[]' FILE > NEW` for a list, `jq -c . FILE > NEW` for objects over several lines.",
    ),
    "E210": Code(
        "control-character",
        "A raw control character, such as a tab or an escape, stands inside a text. JSON wants it escaped.",
        '{"text": "a<TAB>b"}',
        "Write rows with a JSON library; it writes \\t.",
    ),
    # --- schema ---
    "E301": Code(
        "missing-field",
        "A required field is missing.",
        "a record without `tool`",
        "docs/trajectory.schema.json lists the fields.",
    ),
    "E302": Code(
        "unknown-field",
        "A field that the schema does not know. The message names the nearest one. Everything that has no field of its own "
        "belongs into `metadata`.",
        '{"catgory": "web", ...}',
        "Correct the name, or move the field into `metadata`.",
    ),
    "E303": Code(
        "wrong-type",
        "An object, list or null stands where something else is expected.",
        '{"action_sequence": {}}',
        "docs/trajectory.schema.json gives each field's type.",
    ),
    "E304": Code(
        "wrong-value",
        "The type is right, the value is not allowed: an unknown category or outcome, an empty name, a weight above 1.",
        '{"category": "fil-ops"}',
        "The message names what is expected. Korean category and outcome names are accepted.",
    ),
    "E305": Code(
        "bad-time",
        "A time is not ISO 8601 text with date, time and zone.",
        '{"timestamp": "2026-11-21T09:00:00"} (no zone), 1763715600 (a number)',
        "`datetime.now(timezone.utc).isoformat()`",
    ),
    "E306": Code(
        "type-drift",
        'A number, text or truth value stands where the schema, or an earlier line of the same field, has another: "0" and 0. '
        "Loaders such as datasets and pandas then change all rows of the column. Fields of `metadata` and "
        "`environment.details` are compared from line to line (up to 10,000 fields).",
        '{"id": 0, ...}; or "seed": "7" on line 1 and "seed": 7 on line 2',
        "Choose one type for the field in the whole file.",
    ),
    "E307": Code(
        "too-many-actions",
        "The record holds more actions than --max-actions (10,000).",
        "an agent that was never stopped",
        "Cut the record where it stopped making progress, and say so in `metadata`.",
    ),
    "E308": Code(
        "other-format",
        "The line is a row of another format, such as a chat or a preference pair, and not a trajectory.",
        '{"messages": [...]}',
        "`python -m data adapters` lists the formats that `python -m data convert` reads.",
    ),
    # --- within a record ---
    "E401": Code(
        "ends-before-start",
        "An action's end_time lies before its start_time. Often one of the two has the wrong zone.",
        '"start_time": "2026-11-21T09:00:00Z", "end_time": "2026-11-21T09:00:01+09:00"',
        "Take both from one clock, in UTC.",
    ),
    "E402": Code(
        "out-of-order",
        "An action starts before the one above it, and the two are no parallel calls (they do not share a `turn`).",
        "action 3 starts at 09:00:05, action 4 at 09:00:02",
        "Sort actions by their start, or give parallel calls the same `turn`.",
    ),
    "E403": Code(
        "implausible-time",
        "A time lies more than a day in the future, or before the year 2000: a clock that was never set.",
        '"timestamp": "1970-01-01T00:00:00Z"',
        "Correct the clock, or set the time from the logs.",
    ),
    "E404": Code(
        "no-such-step",
        "`metadata.advice` names a step that the record does not have. Steps count from 0; the number of actions means the "
        "final answer. A step has one advice.",
        '"advice": [{"step": 9, ...}] with three actions',
        "Correct the step.",
    ),
    # --- across records ---
    "E501": Code(
        "duplicate-id",
        "The id stands already on another line, which the message names. Ids are unique across all files of a check.",
        "two lines with the id files-1",
        "Remove the copy, or give one record another id; a prefix of your own avoids clashes.",
    ),
    # --- advice ---
    "W601": Code("blank-line", "The line is blank. It is left out of --out.", "an empty line", "Remove it."),
    "W602": Code(
        "no-final-newline",
        "The last record has no line break. Joining files would put two records on one line. --out adds it.",
        "a file whose last byte is }",
        "End each record with a line break.",
    ),
    "W603": Code(
        "secret",
        "The record seems to hold a secret or personal data: an e-mail address, a phone number, a token. A release refuses it.",
        '"output": "mail to kim@example.com"',
        "`python -m data redact FILE --out NEW` puts placeholders in their place. Revoke a real token at once.",
    ),
    "W604": Code(
        "outcome-doubtful",
        "The outcome is success, but the last action failed and no final answer follows.",
        '"outcome": "success" after "error": "not found"',
        "Check the outcome against the final state.",
    ),
    "W605": Code(
        "no-action", "The record holds no action.", '"action_sequence": []', "Nothing can be learned about tools."
    ),
    "W606": Code(
        "no-instruction",
        "`metadata.instruction` is missing, so the record cannot be trained on.",
        '"metadata": {}',
        "Give the user's request.",
    ),
    "W607": Code(
        "no-licence",
        "`metadata.licence` is missing. A release needs the licence of each record, as an SPDX identifier.",
        '"metadata": {"instruction": "..."}',
        'Add "licence": "CC-BY-4.0" if you may.',
    ),
    "W608": Code(
        "misspelt-metadata",
        "`metadata` may hold any key, but this one is very near to one that has a meaning.",
        '"metadata": {"instuction": "..."}',
        "Correct it, or choose a name that cannot be mistaken.",
    ),
    "W609": Code(
        "argument-drift",
        "An argument of a call that succeeded has another type than the same argument of the same tool on an earlier line.",
        '"input": {"count": "3"} after "input": {"count": 3}',
        "Keep it if the model really wrote both; correct the recorder if not.",
    ),
    "W610": Code(
        "unknown-tool",
        "A call succeeded although `metadata.tools` does not define its tool.",
        '"command": "read" where only read_file is defined',
        "Define all tools that the model saw.",
    ),
    "W611": Code(
        "escaped-nul",
        "A text holds \\u0000. It is JSON, but databases such as PostgreSQL and many C programs refuse or cut it.",
        '"output": "a\\u0000b"',
        "Leave binary output out, or write it as base64.",
    ),
    "W612": Code(
        "empty-error",
        "`error` is an empty text. It counts as a failed call; null is a call that succeeded.",
        '"error": ""',
        "Write null, or what went wrong.",
    ),
}


def explain_code(code: str) -> str:
    """One code as Markdown.

    Raises:
        UserError: with the nearest code, if there is none of this name.
    """
    by_name = {known.name: number for number, known in CODES.items()}
    number = code.upper() if code.upper() in CODES else by_name.get(code.lower())
    if number is None:
        hint = nearest(code.upper(), CODES) or nearest(code.lower(), by_name)
        raise UserError(f"there is no code {code!r}; `--explain all` lists them.{hint}")
    found = CODES[number]
    example = found.example if "`" in found.example else f"`{found.example}`"
    if "\n" in found.example:
        example = f"\n\n```\n{found.example}\n```\n"
    return f"### {number} {found.name}\n\n{found.meaning}\n\nExample: {example}\n\nFix: {found.fix}\n"


def explain_all() -> str:
    """All codes as a page of Markdown: docs/validation-codes.md."""
    table = "\n".join(f"| {number} | {code.name} |" for number, code in CODES.items())
    head = (
        "# Validation codes\n\n"
        "Generated by `python -m data validate --explain all`; change data/contribution/codes.py, not this page.\n\n"
        "E codes are errors: the line goes into quarantine. W codes are advice: the record is kept. The first digit is the\n"
        "layer: 1 bytes and lines, 2 JSON, 3 schema, 4 within a record, 5 across records, 6 advice.\n\n"
        f"| code | name |\n|---|---|\n{table}\n"
    )
    return "\n".join([head, *(explain_code(number) for number in CODES)])
