"""Records in, token trees out. Nothing here imports train or benchmark, and nothing needs torch before a model is named."""
