"""Networks of our own: what the libraries do not have, or cannot load quickly."""
