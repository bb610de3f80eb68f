"""`python -m benchmark capture`: a working agent's calls of a model, recorded as they pass by."""
