"""CROCODILE: a causal, disentangled chest X-ray classifier that should survive a new hospital."""
