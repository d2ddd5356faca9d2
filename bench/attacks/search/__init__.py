"""The searches behind APGD, FAB, Square, AutoAttack and auto: plain tensors in, candidates out."""
