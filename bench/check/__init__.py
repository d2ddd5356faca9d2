"""Holds a run against a baseline: has robustness changed, really and enough to matter?"""
