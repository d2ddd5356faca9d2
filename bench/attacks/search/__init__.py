"""The searches behind APGD, FAB, Square and AutoAttack: plain tensors in, candidates out."""
