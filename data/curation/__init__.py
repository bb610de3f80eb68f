"""Curation: clean, diverse, uncontaminated sets of chats, pairs and trajectories, at any size.

`pipeline.curate` runs the steps of a config in order. Each step is one module: `filters`, `duplicates`,
`contamination`, `diversity`. `shards` says how work is cut into tasks and who runs them; `rows` and `text` say what a
step sees of a row. docs/curation.md states every rule.
"""
