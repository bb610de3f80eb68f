"""Checkpoint in, trajectories and KPIs out. Imports data, never train: they meet only through files."""
