"""The families of tasks of the files world, a file a subject. The order decides which tasks a seed gives."""

from __future__ import annotations

from benchmark.worlds.files.families import archives, binary, changes, formats, recall, short
from benchmark.worlds.files.families.family import FilesFamily

FAMILIES: tuple[FilesFamily, ...] = (
    short.WRITE,
    short.MOVE,
    short.CONVERT,
    short.COPY,
    short.FIND_MOVE,
    short.COUNT,
    short.FIND_COPY,
    short.CONVERT_PRICE,
    formats.CONVERT_FORMAT,
    formats.ENCODE,
    archives.UNPACK,
    recall.TOLD,
    binary.HEADER,
    archives.UNZIP,
    changes.COMPARE,
    archives.PACK,
    changes.CORRECT,
    formats.REPRICE,
    recall.RECALL,
    changes.PERMIT,
    archives.REPACK,
    changes.COLLECT,
    changes.RENAME,
    formats.ENCODE_FOLDER,
    binary.IDENTIFY,
    changes.MIGRATE,
    binary.PATCH,
    formats.ENCODE_CONVERT,
    binary.PICTURE_SIZE,
    recall.RULES,
    archives.FIND_PACK,
)
