"""What an untrusted file may name: decided here, for every format, before anything is imported.

A model file says which network it holds by the name of a class, and a name can be anything. Without
``--trust`` a class is imported and called only if it is on the lists in ``allowed.py`` and its
arguments are plain values, or if the user of this process asked for the same thing before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segpref.faces import face

if TYPE_CHECKING:
    from segpref.trust.check import (
        PREPARATION,
        adopt_trust,
        allow_names,
        check_network,
        check_policy,
        check_preparation,
        granted_trust,
        monai_path,
        stays_local,
        vouch,
    )
    from segpref.trust.folders import (
        is_code_of,
        is_own,
        own_path,
        path_in_folder,
        require_trust,
        trust_code,
    )
    from segpref.trust.own_modules import as_in_folder
    from segpref.trust.text import parse_json, read_json, read_yaml, refuse_repeats
    from segpref.trust.transformers import check_transformers_config
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "check": (
                "PREPARATION",
                "adopt_trust",
                "allow_names",
                "check_network",
                "check_policy",
                "check_preparation",
                "granted_trust",
                "monai_path",
                "stays_local",
                "vouch",
            ),
            "folders": (
                "is_code_of",
                "is_own",
                "own_path",
                "path_in_folder",
                "require_trust",
                "trust_code",
            ),
            "own_modules": ("as_in_folder",),
            "text": ("parse_json", "read_json", "read_yaml", "refuse_repeats"),
            "transformers": ("check_transformers_config",),
        },
    )

__all__ = [
    "PREPARATION",
    "adopt_trust",
    "allow_names",
    "as_in_folder",
    "check_network",
    "check_policy",
    "check_preparation",
    "check_transformers_config",
    "granted_trust",
    "is_code_of",
    "is_own",
    "monai_path",
    "own_path",
    "parse_json",
    "path_in_folder",
    "read_json",
    "read_yaml",
    "refuse_repeats",
    "require_trust",
    "stays_local",
    "trust_code",
    "vouch",
]
