"""Networks, and how to build them with any norm."""

from bench.models.build import Classifier, build_model

__all__ = ["Classifier", "build_model"]
