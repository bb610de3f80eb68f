"""Which licences a record may have to be released, and where their texts are.

Names are SPDX identifiers (https://spdx.org/licenses). A release is given to everybody for every use, and what is in it
is converted, redacted and mixed. So a licence must allow commercial use and changed versions, and must not bind what
the data is mixed with.
"""

from __future__ import annotations

import re

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from core.errors import nearest

_CC = "https://creativecommons.org"
_SPDX = "https://spdx.org/licenses"

ALLOWED = {
    "CC-BY-4.0": f"{_CC}/licenses/by/4.0/",
    "CC-BY-3.0": f"{_CC}/licenses/by/3.0/",
    "CC0-1.0": f"{_CC}/publicdomain/zero/1.0/",
    "ODC-By-1.0": f"{_SPDX}/ODC-By-1.0.html",
    "PDDL-1.0": f"{_SPDX}/PDDL-1.0.html",
    "CDLA-Permissive-1.0": f"{_SPDX}/CDLA-Permissive-1.0.html",
    "CDLA-Permissive-2.0": f"{_SPDX}/CDLA-Permissive-2.0.html",
    "Apache-2.0": f"{_SPDX}/Apache-2.0.html",
    "MIT": f"{_SPDX}/MIT.html",
    "MIT-0": f"{_SPDX}/MIT-0.html",
    "BSD-2-Clause": f"{_SPDX}/BSD-2-Clause.html",
    "BSD-3-Clause": f"{_SPDX}/BSD-3-Clause.html",
    "ISC": f"{_SPDX}/ISC.html",
    "0BSD": f"{_SPDX}/0BSD.html",
    "Unlicense": f"{_SPDX}/Unlicense.html",
}
"""SPDX identifier -> address of the licence's text."""

DEMANDS_NO_NAME = frozenset({"CC0-1.0", "PDDL-1.0", "MIT-0", "0BSD", "Unlicense"})
"""The allowed licences under which nobody has to be named; all others need a source to name."""

_FORBIDDING = (
    (r"-NC\b", "it forbids commercial use, and a release is for every use"),
    (r"-ND\b", "it forbids changed versions, and converting and redacting are changes"),
    (r"-SA\b|GPL|^ODbL|^MPL|^EUPL|^CDLA-Sharing", "it binds whatever the data is mixed with (share-alike)"),
)


def licence_to_spdx(licence: str) -> str:
    """The SPDX identifier of an allowed licence, in SPDX's own spelling: `cc-by-4.0` -> `CC-BY-4.0`.

    Raises:
        ValueError: with the reason, if it is no SPDX identifier or does not allow a release.
    """
    try:
        name = str(canonicalize_license_expression(licence))
    except InvalidLicenseExpression:
        raise ValueError(f"{licence!r} is no SPDX identifier.{nearest(licence, ALLOWED)}") from None
    if name in ALLOWED:
        return name
    if " " in name:
        raise ValueError(f"{licence!r} is an expression; choose one licence of it")
    for pattern, reason in _FORBIDDING:
        if re.search(pattern, name):
            raise ValueError(f"{name} does not allow a release: {reason}")
    raise ValueError(f"{name} is not among the licences that can be released ({', '.join(ALLOWED)})")
