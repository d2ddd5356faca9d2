"""Suites: a YAML file, its names resolved once and checked in full, becomes a plan of cells."""
