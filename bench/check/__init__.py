"""Compares a run with a baseline: has robustness changed, significantly and enough to matter?"""
