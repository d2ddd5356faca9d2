"""Experiment trackers that a run may report to; none of them can stop it."""

from bench.track.tracking import TRACKERS, Both, Tracking

__all__ = ["TRACKERS", "Both", "Tracking"]
