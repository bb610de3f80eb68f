"""Tools of a user's folder, started and spoken to: one module for each kind of source."""
