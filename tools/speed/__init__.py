"""Speed comparisons: contenders take turns in one process on one machine."""
