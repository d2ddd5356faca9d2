"""A check in the formats that other programs read, one file each."""
