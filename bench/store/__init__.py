"""What a run leaves on disk: a manifest and, for every finished cell, its rows and its info."""

from bench.store.files import write_atomically
from bench.store.manifest import Manifest, ManifestCell
from bench.store.run_store import RunStore
from bench.store.schema import ROW_SCHEMA, SCHEMA_VERSION

__all__ = [
    "ROW_SCHEMA",
    "SCHEMA_VERSION",
    "Manifest",
    "ManifestCell",
    "RunStore",
    "write_atomically",
]
