"""Published data sets: their layouts, manifests, splits, leak certificates and image stores."""
