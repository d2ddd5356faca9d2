"""Adapters: one file a library of attacks."""
