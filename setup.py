"""Builds the one native extension; everything else about the package is in pyproject.toml.

The C structs of the standards' records are written from `testbed/spec` at build time, so that an offset is
declared once for both languages. `VIRTBED_SANITIZE=address,undefined` builds with those sanitizers.
"""

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

ROOT = Path(__file__).parent
NATIVE = Path("testbed/native")
sys.path.insert(0, str(ROOT))


def write_if_changed(path: Path, text: str) -> None:
    """Write a generated file only when its text differs, so that nothing is rebuilt in vain."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def extension() -> Extension:
    """Return the extension with the flags that the environment asks for."""
    compile_flags = ["-O3", "-g", "-std=gnu11", "-Wall", "-Wextra", "-fno-strict-aliasing", "-fwrapv"]
    link_flags: list[str] = []
    sanitizers = os.environ.get("VIRTBED_SANITIZE", "")
    if sanitizers:
        compile_flags += [
            f"-fsanitize={sanitizers}",
            "-fno-omit-frame-pointer",
            "-fno-sanitize-recover=undefined",
            "-O1",
        ]
        link_flags += [f"-fsanitize={sanitizers}"]
    sources = [
        str(NATIVE / "_core.pyx"),
        *sorted(str(p.relative_to(ROOT)) for p in (ROOT / NATIVE).glob("*.c") if p.name != "_core.c"),
    ]
    headers = sorted(
        str(p.relative_to(ROOT)) for p in (ROOT / NATIVE).glob("*.[hp]*") if p.suffix in (".h", ".pxi")
    )
    return Extension(
        "testbed.native._core",
        sources=sources,
        depends=headers,
        include_dirs=[str(NATIVE)],
        extra_compile_args=compile_flags,
        extra_link_args=link_flags,
    )


def main() -> None:
    """Generate the layouts header and hand over to setuptools."""
    from testbed.spec.c_header import c_header

    write_if_changed(ROOT / NATIVE / "layouts.h", c_header())
    directives = {
        "language_level": 3,
        "boundscheck": False,
        "wraparound": False,
        "cdivision": True,
        "initializedcheck": False,
    }
    setup(ext_modules=cythonize([extension()], compiler_directives=directives))


main()
