"""Parts that backbones are assembled from."""
