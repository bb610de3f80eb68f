"""What usually goes wrong with a run, looked for before the run (train/audit/audit.py)."""
