"""What a file is that was given for rows and is none: told from its first bytes, in one line that says what to do.

A login page that a browser saved, a pointer in the place of a large file, text in the encoding of Korean Windows: each fails
in a reader of JSON, too, but as thousands of broken rows.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from core.errors import UserError

_KINDS: tuple[tuple[bytes, str, str, str], ...] = (
    (b"\x1f\x8b", ".gz", "packed with gzip", ""),
    (b"\x28\xb5\x2f\xfd", ".zst", "packed with zstd", ""),
    (b"PAR1", ".parquet", "Parquet", ""),
    (
        b"PK\x03\x04",
        "",
        "a ZIP archive",
        "unpack it and name the file inside (a table of Excel: save it as CSV in UTF-8)",
    ),
    (b"7z\xbc\xaf\x27\x1c", "", "a 7z archive", "unpack it and name the file inside"),
    (b"BZh", "", "packed with bzip2", "unpack it with `bunzip2`"),
    (b"\xfd7zXZ\x00", "", "packed with xz", "unpack it with `unxz`"),
    (b"ARROW1", "", "an Arrow file", "save it as Parquet (`datasets.Dataset.from_file(NAME).to_parquet(...)`)"),
    (b"SQLite format 3\x00", "", "an SQLite database", "export its rows as JSON Lines or CSV"),
    (b"%PDF-", "", "a PDF", "export its rows as JSON Lines or CSV"),
)
"""First bytes, the suffix that a file of the kind must have to be read, what it is, and else what to do with it."""
_POINTER = b"version https://git-lfs.github.com/spec/"
_PAGE = re.compile(
    rb"\s*(?:<!--.*?-->\s*|<\?xml[^>]*\?>\s*)*<(?:!doctype\s+html|html|head|body|script|title|meta)\b", re.I | re.S
)
_WIDE = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_HANGUL = re.compile("[가-힣]")
_LOOKED_AT = 2**16


def refuse_other_kinds(path: Path, head: bytes, *, is_one_of: str = "", is_packed: bool = False) -> None:
    """Stop at a file that its first bytes show to be no rows.

    Args:
        head: the first bytes.
        is_one_of: the suffix that says what the bytes are (.gz, .zst, .parquet), or an empty text for JSON and CSV.
        is_packed: whether `head` was unpacked.

    Raises:
        UserError: with what it is and what to do.
    """
    if head.startswith(_POINTER):
        raise UserError(f"{path}: a Git LFS pointer and not the file itself; fetch it with `git lfs pull`")
    for magic, suffix, what, remedy in _KINDS:
        if not head.startswith(magic) or (is_one_of and suffix == is_one_of):
            continue
        if is_packed or is_one_of:
            remedy = remedy or f"unpack it and name it NAME{suffix}"
        raise UserError(
            f"{path}: is {what}{' inside' if is_packed else ''}; {remedy or f'rename it to {path.name}{suffix}'}"
        )
    if _PAGE.match(head[:_LOOKED_AT]):
        raise UserError(
            f"{path}: an HTML page and not rows, often a login or error page that was saved in the place of a download; "
            "download it again (from the hub: `hf download`)"
        )
    if is_one_of:
        if head and is_one_of != ".parquet":
            magic, what = next((magic, what) for magic, suffix, what, _ in _KINDS if suffix == is_one_of)
            if not head.startswith(magic):
                raise UserError(f"{path}: its name ends in {is_one_of}, and it is not {what}; rename it to {path.stem}")
        return
    if encoding := _encoding_of(head):
        raise UserError(
            f"{path}: is {encoding} text, and rows are UTF-8; convert it with "
            f"`iconv -f {encoding.upper()} -t UTF-8 {path.name} > NEW`"
        )


def _encoding_of(head: bytes) -> str | None:
    """The encoding of a text that is not UTF-8 where it can be told, or null."""
    for bom, name in _WIDE:
        if head.startswith(bom):
            return name
    part = head[:_LOOKED_AT]
    # Each bracket, quote and line break of UTF-16 has a byte 0, always on the same side; UTF-8 has none at all.
    even, odd = part[::2].count(0), part[1::2].count(0)
    if max(even, odd) > max(3, len(part) // 50) and min(even, odd) * 4 < max(even, odd):
        return "UTF-16BE" if even > odd else "UTF-16LE"
    return "cp949" if _is_cp949(part) else None


def _is_cp949(part: bytes) -> bool:
    """Whether no line with Korean is UTF-8 and all are Korean text in cp949, of which EUC-KR is a part."""
    lines = [line for line in part.split(b"\n") if not line.isascii()]
    if len(part) == _LOOKED_AT and len(lines) > 1 and not part.endswith(b"\n"):
        lines.pop()  # it may be cut within a character
    korean = other = 0
    for line in lines:
        try:
            codecs.getincrementaldecoder("utf-8")().decode(line)
            return False
        except UnicodeDecodeError:
            pass
        try:
            text = codecs.getincrementaldecoder("cp949")().decode(line)
        except UnicodeDecodeError:
            return False
        strange = [letter for letter in text if not letter.isascii()]
        hangul = sum(_HANGUL.match(letter) is not None for letter in strange)
        korean, other = korean + hangul, other + len(strange) - hangul
    return korean > 1 and korean >= 4 * other
