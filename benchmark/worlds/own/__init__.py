"""A folder of the user's as a world: tools that start or answer somewhere, tasks, checks."""
