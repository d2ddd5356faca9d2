"""Networks of other libraries as classifiers of images in [0, 1].

One file per scheme says how a URI becomes a ``Source``, which describes and loads a model.
``bench.zoo.sources`` lists the schemes and opens models.
"""
