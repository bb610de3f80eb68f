"""Prepared set in, checkpoint out."""

import logging

# At its import bitsandbytes warns about a kernel for inference on CPUs, which nothing here uses.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
