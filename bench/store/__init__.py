"""Results on disk: a manifest and, for every finished cell, its rows and its info."""
