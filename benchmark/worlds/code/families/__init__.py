"""The families of tasks of the code world, a file a subject. The order decides which tasks a seed gives."""

from __future__ import annotations

from benchmark.worlds.code.families import repairing, running, writing
from benchmark.worlds.code.families.family import CodeFamily

FAMILIES: tuple[CodeFamily, ...] = (
    writing.CREATE,
    writing.CHANGE,
    running.RUN,
    running.COMPUTE,
    running.CHAIN,
    writing.FROM_TESTS,
    writing.LOG,
    repairing.FIX_SYNTAX,
    repairing.FIX_NAME,
    repairing.FIX_OPERATOR,
    repairing.FIX_BOUNDARY,
    repairing.IMPORT,
    repairing.TWO_MODULES,
    writing.RENAME,
    repairing.FIVE_MODULES,
    repairing.FIX_TYPE,
    running.COMPUTE_DIGITS,
    writing.WRITE_TEST,
)
