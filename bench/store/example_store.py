"""Stored adversarial examples, as exact floats: results can be verified without the attack."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bench.core.errors import UserError, first_line
from bench.core.paths import Folder
from bench.store.files import write_atomically

_SHAPE = b"rbench.shape"


class ExampleStore:
    """Reads and writes ``store/examples/CELL_ID/BATCH.parquet``.

    A file has a column ``index`` (of the image in its split), a column ``x_adv`` (c * h * w
    floats), the shape in its metadata under ``rbench.shape``, and page checksums.

    Args:
        folder: The run folder; created on the first write.
    """

    def __init__(self, folder: Folder) -> None:
        self._root = folder / "store" / "examples"

    def write(
        self, cell_id: str, batch: int, index: Sequence[int], x_adv: NDArray[np.float32]
    ) -> None:
        """Stores the examples of a batch atomically.

        Args:
            cell_id: The cell.
            batch: Number of the batch.
            index: Position of each image in its split (b,).
            x_adv: The images (b, c, h, w), float32.

        Raises:
            ValueError: When the numbers of images and indices differ.
        """
        n, *shape = x_adv.shape
        if n != len(index):
            raise ValueError(f"expected {len(index)} images, found {n}")
        flat = pa.array(np.ascontiguousarray(x_adv, np.float32).reshape(-1), pa.float32())
        images = pa.FixedSizeListArray.from_arrays(flat, math.prod(shape))
        table = pa.table({"index": pa.array(index, pa.int64()), "x_adv": images})
        table = table.replace_schema_metadata({_SHAPE: ",".join(map(str, shape))})
        sink = io.BytesIO()
        pq.write_table(
            table,
            sink,
            compression="zstd",
            use_dictionary=False,
            # Groups bytes by significance: exponents repeat, and so compress.
            use_byte_stream_split=["x_adv.list.element"],
            write_page_checksum=True,
        )
        write_atomically(self._path(cell_id, batch), sink.getvalue())

    def cell_ids(self) -> list[str]:
        """Returns the ids of the cells that have examples, sorted."""
        if not self._root.is_dir():
            return []
        return sorted(path.name for path in self._root.iterdir() if not path.name.startswith("."))

    def folder(self, cell_id: str) -> Folder:
        """Returns the folder of a cell's examples, whether it exists or not."""
        return self._root / cell_id

    def batches(self, cell_id: str) -> set[int]:
        """Returns the numbers of a cell's stored batches."""
        folder = self.folder(cell_id)
        if not folder.is_dir():
            return set()
        stems = (path.stem for path in folder.iterdir() if path.suffix == ".parquet")
        return {int(stem) for stem in stems if stem.isdecimal()}

    def has(self, cell_id: str, n_batches: int) -> bool:
        """Returns whether all batches of a cell are stored."""
        return self.batches(cell_id).issuperset(range(n_batches))

    def read(self, cell_id: str, batch: int) -> tuple[list[int], NDArray[np.float32]]:
        """Returns the indices (b,) and the images (b, c, h, w) of a batch.

        Raises:
            UserError: When the file is missing, damaged, or not a file of examples.
        """
        path = self._path(cell_id, batch)
        try:
            source = io.BytesIO(path.read_bytes())
            table = pq.ParquetFile(source, page_checksum_verification=True).read()
            if not pa.types.is_fixed_size_list(table.schema.field("x_adv").type):
                raise ValueError("x_adv is not a column of images")
            shape = [int(part) for part in table.schema.metadata[_SHAPE].decode().split(",")]
            flat = table["x_adv"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            index = table["index"].to_pylist()
            return index, flat.astype(np.float32, copy=False).reshape(len(index), *shape)
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; run the suite with --save-adv") from None
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path}: damaged, or not a file of adversarial examples ({first_line(error)}); "
                "delete it and run the suite with --save-adv again"
            ) from None

    def _path(self, cell_id: str, batch: int) -> Folder:
        return self._root / cell_id / f"{batch:06d}.parquet"
