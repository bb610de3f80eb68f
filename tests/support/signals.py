"""Processes that hear signals, whoever started the tests: a shell's background ignores Ctrl-C, nohup ignores hanging up."""

from __future__ import annotations

HEARS_SIGNALS = (
    "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
)
"""The beginning of a process's code."""
