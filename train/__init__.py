"""Prepared set in, checkpoint out."""
