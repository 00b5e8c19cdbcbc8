"""What a test needs of the machine beside Python: programs, kernels, rights.

Where CI=true a missing peer is a failure; elsewhere its tests are skipped with the reason.
"""

import os
import shutil
from pathlib import Path
from typing import Final

import pytest

CI: Final = os.environ.get("CI", "").lower() == "true"


def needs(*programs: str) -> pytest.MarkDecorator:
    """Mark tests that need these programs."""
    missing = [program for program in programs if shutil.which(program) is None]
    return _unless(missing, "not installed, see scripts/peers: ")


def need(program: str, package: str) -> None:
    """Skip the test that calls this where a program is not installed; in CI fail it."""
    if shutil.which(program) is not None:
        return
    why = f"{program} is not installed (Debian: {package}; scripts/peers installs it)"
    if CI:
        pytest.fail(why)
    pytest.skip(why)


def _unless(missing: list[str], why: str) -> pytest.MarkDecorator:
    """Skip where something is missing; in CI run all the same, and fail."""
    return pytest.mark.skipif(bool(missing) and not CI, reason=f"{why}{', '.join(missing)}")


def _rights() -> list[str]:
    there = {"root": os.geteuid() == 0, "/dev/net/tun": Path("/dev/net/tun").exists()}
    return [what for what, is_there in there.items() if not is_there]


needs_namespaces: Final = _unless([*_rights()], "network namespaces need ")
