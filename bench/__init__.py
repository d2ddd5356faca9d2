"""rbench: a benchmark harness for adversarial robustness."""

__version__ = "0.1.0"
