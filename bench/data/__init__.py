"""Data sets: from a name to a fixed, hashed slice. Imports torch only to download."""
