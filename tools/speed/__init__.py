"""Speed, side by side: contenders take turns in one process on one machine."""
