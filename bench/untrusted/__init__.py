"""Defences against other people's files: every reader that could be made to run code or explode.

``docs/security.md`` states what they promise. Nothing else in the package may load a pickle, call
``torch.load`` or ``np.load``, decode an image file or unpack an archive; a test checks that.
"""
