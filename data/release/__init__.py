"""Released versions of the data: built once, never changed, and checkable by everybody who holds one.

`build` makes a release, `verify` proves what somebody holds, `diff` says what changed, `export` writes tables for people.
The folder's format stands in `manifest`; docs/release.md is the guide.
"""
