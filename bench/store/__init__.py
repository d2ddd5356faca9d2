"""Results on disk: a manifest and, for every finished cell, its rows and its info."""

from bench.core.checkpoint import CheckpointFacts, Epoch
from bench.store.analysis_store import AnalysisStore
from bench.store.entries import SCHEMA_VERSION
from bench.store.files import write_atomically
from bench.store.lock import locked
from bench.store.manifest import Manifest, ManifestAnalysis, ManifestCell
from bench.store.rows import ROW_SCHEMA
from bench.store.run_store import Chunk, RunStore

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
