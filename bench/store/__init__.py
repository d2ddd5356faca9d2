"""What a run leaves on disk: a manifest and, for every finished cell, its rows and its info."""

from bench.store.analysis_store import AnalysisStore
from bench.store.chunk_store import Chunk
from bench.store.files import write_atomically
from bench.store.lock import locked
from bench.store.manifest import CheckpointFacts, Epoch, Manifest, ManifestAnalysis, ManifestCell
from bench.store.run_store import RunStore
from bench.store.schema import ROW_SCHEMA, SCHEMA_VERSION

__all__ = [
    "ROW_SCHEMA",
    "SCHEMA_VERSION",
    "AnalysisStore",
    "CheckpointFacts",
    "Chunk",
    "Epoch",
    "Manifest",
    "ManifestAnalysis",
    "ManifestCell",
    "RunStore",
    "locked",
    "write_atomically",
]
