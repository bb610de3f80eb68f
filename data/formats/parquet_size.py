"""How much memory the rows of a Parquet file take, known before they are read.

A few hundred bytes of Parquet can hold gigabytes: a page that is packed well, one long text in a dictionary that each row
names, a list of millions of equal values. So the sizes that the file states are looked at first, then each row group is read
once with its texts as numbers into their dictionary, which costs little. What comes out is how many rows may be read at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow
    from numpy.typing import NDArray

BATCH_ROWS = 1000
BATCH_BYTES = 2**24
"""Of the values of rows that are read at once."""
LONGEST_ROW_BYTES = 2**26
VALUE_BYTES = 64
"""What a value costs beside its text."""

SUSPICIOUS_BYTES = 2**28
"""Files that hold less are read, however well they are packed."""
MOST_PACKED = 200
"""Pages of text are packed ten to a hundred times."""
MOST_REPEATED = 1000
"""With the texts of dictionaries written out, a file may hold so many times its own size."""
SUSPICIOUS_VALUES = 2**24
SUSPICIOUS_ROWS = 2**20


def rows_of_a_batch(path: Path, metadata: Any) -> Iterator[int]:
    """For each row group of a file how many of its rows to read at once.

    Raises:
        UserError: where the file holds far more than its size, or a row is longer than `LONGEST_ROW_BYTES`.
    """
    import pyarrow.parquet  # noqa: PLC0415 - takes a fifth of a second, and most files are JSON

    file_bytes = max(path.stat().st_size, 1)
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    stated = sum(group.total_byte_size for group in groups)
    if stated > SUSPICIOUS_BYTES and stated > MOST_PACKED * file_bytes:
        raise _too_much(path, stated, file_bytes)
    if metadata.num_rows > SUSPICIOUS_ROWS and metadata.num_rows > 4 * file_bytes:
        raise _too_much(path, metadata.num_rows * VALUE_BYTES, file_bytes)
    texts = _text_columns(groups[0]) if groups else []
    written_out, row = 0, 1
    with pyarrow.parquet.ParquetFile(path, buffer_size=2**20, read_dictionary=texts) as file:
        for number, group in enumerate(groups):
            columns = [group.column(at) for at in range(group.num_columns)]
            values = max((column.num_values for column in columns), default=0)
            packed = sum(column.total_compressed_size for column in columns)
            if values > SUSPICIOUS_VALUES and values > 16 * packed:
                raise _too_much(path, values * VALUE_BYTES, file_bytes)
            mean = (group.total_byte_size + values * VALUE_BYTES) // max(group.num_rows, 1)
            longest = 1
            for batch in file.iter_batches(batch_size=_rows(mean), row_groups=[number]):
                sizes = sum((_bytes_of_rows(column) for column in batch.columns), _zeros(batch.num_rows))
                if len(sizes):
                    longest = max(longest, int(sizes.max()))
                written_out += int(sizes.sum())
                if written_out > SUSPICIOUS_BYTES and written_out > MOST_REPEATED * file_bytes:
                    raise _too_much(path, written_out, file_bytes)
                if longest > LONGEST_ROW_BYTES:
                    at = row + int(sizes.argmax())
                    raise UserError(f"{path}:{at}: a row of more than {LONGEST_ROW_BYTES >> 20} MiB")
                row += batch.num_rows
            yield _rows(longest)


def _rows(row_bytes: int) -> int:
    return max(1, min(BATCH_ROWS, BATCH_BYTES // max(row_bytes, 1)))


def _too_much(path: Path, size: int, file_bytes: int) -> UserError:
    return UserError(
        f"{path}: holds at least {size >> 20:,} MiB in {file_bytes:,} bytes; no data set is packed like that. Is it damaged, "
        "or made to fill the memory?"
    )


def _text_columns(group: Any) -> list[str]:
    columns = [group.column(at) for at in range(group.num_columns)]
    return [column.path_in_schema for column in columns if column.physical_type == "BYTE_ARRAY"]


def _zeros(count: int) -> NDArray[np.int64]:
    import numpy as np  # noqa: PLC0415 - as above

    return np.zeros(count, np.int64)


def _bytes_of_rows(array: pyarrow.Array) -> NDArray[np.int64]:
    """What each element of an array holds, in bytes, with texts of dictionaries written out."""
    import numpy as np  # noqa: PLC0415 - as above
    import pyarrow as pa  # noqa: PLC0415 - as above
    import pyarrow.compute as pc  # noqa: PLC0415 - as above

    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return _bytes_of_rows(array.storage)
    if pa.types.is_dictionary(kind):
        of_text = _bytes_of_rows(array.dictionary)
        places = pc.fill_null(array.indices, -1).to_numpy(zero_copy_only=False)
        return np.append(of_text, VALUE_BYTES)[places]
    if pa.types.is_struct(kind):
        return sum((_bytes_of_rows(array.field(at)) for at in range(kind.num_fields)), _zeros(len(array)))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_map(kind):
        inner = [array.keys, array.items] if pa.types.is_map(kind) else [array.values]
        sizes = sum((_bytes_of_rows(part) for part in inner), _zeros(len(inner[0])))
        upto = np.concatenate([[0], np.cumsum(sizes)])
        offsets = array.offsets.to_numpy(zero_copy_only=False)
        return upto[offsets[1:]] - upto[offsets[:-1]] + VALUE_BYTES
    if pa.types.is_fixed_size_list(kind):
        inner_sizes = _bytes_of_rows(array.values[array.offset * kind.list_size :][: len(array) * kind.list_size])
        return inner_sizes.reshape(len(array), -1).sum(axis=1) + VALUE_BYTES
    if any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary,
                                   pa.types.is_large_binary)):  # fmt: skip
        return pc.fill_null(pc.binary_length(array), 0).to_numpy(zero_copy_only=False).astype(np.int64) + VALUE_BYTES
    return np.full(len(array), VALUE_BYTES)
