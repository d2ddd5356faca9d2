"""Other people's models: networks of other libraries, made into classifiers of images in [0, 1].

One file a scheme. Each says how a URI becomes a ``Source``: something that tells what a model is,
and loads it. ``bench.zoo.sources`` lists the schemes and is where models are opened.
"""

from bench.models.external.scheme import ModelFacts, Scheme, Shelf, Source

__all__ = ["ModelFacts", "Scheme", "Shelf", "Source"]
