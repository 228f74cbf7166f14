"""Compiles the hot path: `compiled.py DIRECTORY` makes a copy of the package there whose hottest modules are compiled.

The modules are those of `[tool.moongate] compiled` in pyproject.toml. mypyc makes C extensions of them as they stand:
the sources remain what is read, edited and debugged, and run as they are where no C compiler is. Whoever has DIRECTORY
first on `PYTHONPATH` runs the copy. Nothing is done if it is already what the sources say.
"""

from __future__ import annotations

import compileall
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "moongate"
EXIT_NO_COMPILER = 3
_STAMP = ".made-of"
# What mypy has to say about the sources, `make lint` says.
_CONFIG = "[mypy]\nfollow_imports = silent\nignore_missing_imports = True\n"


def modules() -> list[str]:
    """Paths below `src` of what is compiled."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found: list[str] = project["tool"]["moongate"]["compiled"]
    return found


def has_compiler() -> bool:
    """Whether C extensions for this Python can be made here."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    return shutil.which(compiler) is not None and Path(sysconfig.get_path("include"), "Python.h").exists()


def compile_into(directory: Path) -> None:
    """Copy the package to `directory` and compile there. Raises CalledProcessError, with what was printed."""
    made_of = _fingerprint()
    if _is_made_of(directory, made_of):
        return
    beside = directory.with_name(directory.name + ".new")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(ROOT / "src" / PACKAGE, beside / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    (beside / "mypy.ini").write_text(_CONFIG, encoding="ascii")
    command = [sys.executable, str(Path(__file__).resolve()), "--build-here", *modules()]
    subprocess.run(command, cwd=beside, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    shutil.rmtree(beside / "build")
    shutil.rmtree(beside / ".mypy_cache", ignore_errors=True)
    compileall.compile_dir(beside / PACKAGE, quiet=1, stripdir=str(beside), prependdir=str(directory))
    (beside / _STAMP).write_text(made_of, encoding="ascii")
    shutil.rmtree(directory, ignore_errors=True)
    beside.replace(directory)


def _is_made_of(directory: Path, made_of: str) -> bool:
    stamp = directory / _STAMP
    return stamp.exists() and stamp.read_text(encoding="ascii") == made_of


def _fingerprint() -> str:
    """Of all sources (the copy has them, too), of this file, and of what compiles."""
    told = hashlib.sha256()
    for path in [Path(__file__), ROOT / "pyproject.toml", *sorted((ROOT / "src" / PACKAGE).rglob("*"))]:
        if path.is_file() and path.suffix != ".pyc":
            told.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return f"{told.hexdigest()} {sys.version} mypy {version('mypy')}"


def build_here(chosen: list[str]) -> None:
    """Compile in the working directory. Its own process: mypy and setuptools keep much to themselves."""
    from mypyc.build import mypycify  # noqa: PLC0415 - not there for those who only ask whether there is a compiler
    from setuptools import Distribution  # noqa: PLC0415
    from setuptools.command.build_ext import build_ext  # noqa: PLC0415

    extensions = mypycify(["--config-file=mypy.ini", *chosen], opt_level="2", debug_level="0", group_name=PACKAGE)
    # Calls of Python's own functions go straight there, not by a table. Warnings are about C that nobody wrote.
    faster = ["-fno-plt", "-fno-semantic-interposition"] if sys.platform == "linux" else []
    for extension in extensions:
        kept = [flag for flag in extension.extra_compile_args if flag != "-Werror"]
        extension.extra_compile_args = [*kept, "-w", *faster]
    command = build_ext(Distribution({"name": PACKAGE, "ext_modules": extensions}))
    command.inplace, command.parallel = True, os.cpu_count() or 1
    command.ensure_finalized()
    command.run()


def main() -> int:
    """Give the exit code: 0 done, 1 it failed, 3 there is no compiler."""
    if sys.argv[1:2] == ["--build-here"]:
        build_here(sys.argv[2:])
        return 0
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    directory = Path(sys.argv[1]).absolute()
    if not has_compiler():
        shutil.rmtree(directory, ignore_errors=True)  # or something older would be run for the sources
        print("no C compiler, or no Python.h, here: Moongate runs as it is, at half the speed", file=sys.stderr)
        return EXIT_NO_COMPILER
    try:
        compile_into(directory)
    except subprocess.CalledProcessError as error:
        shutil.rmtree(directory, ignore_errors=True)
        print(error.stdout, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
