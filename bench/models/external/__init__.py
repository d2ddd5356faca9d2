"""Networks of other libraries as classifiers of images in [0, 1].

One file per scheme says how a URI becomes a ``Source``, which describes and loads a model.
``bench.zoo.sources`` lists the schemes and opens models.
"""

from bench.core.checkpoint import ModelFacts
from bench.models.external.scheme import ModelLookup, Scheme, Source

__all__ = ["ModelFacts", "ModelLookup", "Scheme", "Source"]
