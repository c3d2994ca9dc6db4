# SPDX-License-Identifier: Apache-2.0
"""Drives CMake; all that is static stands in pyproject.toml."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import ninja
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
# Distributions ship them apart from Python (python3-dev).
HAS_PYTHON_HEADERS = Path(sysconfig.get_path("include"), "Python.h").exists()


def environment_arguments() -> list[str]:
    """Further CMake arguments, as scikit-build and conda pass them."""
    return shlex.split(os.environ.get("CMAKE_ARGS", ""))


class CMakeBuild(build_ext):
    """Builds libsknet_ops.so and _native with CMake and puts them beside the Python files of sknet_ops."""

    def run(self) -> None:
        (extension,) = self.extensions
        # The source folder for an editable install, the folder that becomes the wheel otherwise.
        package_dir = Path(self.get_ext_fullpath(extension.name)).resolve().parent
        # Not self.build_temp, which an editable install throws away: the next build starts from these objects.
        build_dir = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}"
        stage = build_dir / "stage"
        shutil.rmtree(stage, ignore_errors=True)

        jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL") or str(len(os.sched_getaffinity(0)))
        options = {
            "CMAKE_BUILD_TYPE": "Release",
            "CMAKE_MAKE_PROGRAM": Path(ninja.BIN_DIR) / "ninja",
            "Python_EXECUTABLE": sys.executable,
            "SKNET_OPS_PYTHON": "ON" if HAS_PYTHON_HEADERS else "OFF",
        }
        if not HAS_PYTHON_HEADERS:
            self.warn("no Python.h: left out sknet_ops._native, the ops on NumPy arrays; MindSpore does not need it")
        defines = [f"-D{name}={value}" for name, value in options.items()]
        # An earlier isolated build has left paths in the cache that no longer exist. The objects stay.
        (build_dir / "CMakeCache.txt").unlink(missing_ok=True)
        self._cmake("-S", ROOT, "-B", build_dir, "-G", "Ninja", *defines, *environment_arguments())
        self._cmake("--build", build_dir, "--parallel", jobs)
        self._cmake("--install", build_dir, "--prefix", stage, "--strip")

        for source in sorted(stage.rglob("*.so")):
            target = package_dir / source.relative_to(stage / "sknet_ops")
            target.parent.mkdir(parents=True, exist_ok=True)
            # Not over the old file: a running process may have it mapped.
            new = target.with_name(f".{target.name}.new")
            shutil.copy2(source, new)
            new.replace(target)

    def get_outputs(self) -> list[str]:
        native = Path(self.get_ext_fullpath(self.extensions[0].name))
        library = native.parent / "lib" / "libsknet_ops.so"
        return [str(library), str(native)] if HAS_PYTHON_HEADERS else [str(library)]

    def get_output_mapping(self) -> dict[str, str]:
        return {}

    @staticmethod
    def _cmake(*arguments: str | Path) -> None:
        # The module and not the script: it is the one that the build requirements installed for this interpreter.
        subprocess.run([sys.executable, "-m", "cmake", *map(str, arguments)], check=True)


setup(
    packages=[
        *find_packages(include=["sknet_ops", "sknet_ops.*"]),
        *find_packages("python", include=["sknet", "sknet.*"]),
    ],
    package_dir={"sknet": "python/sknet"},
    # python/sknet/configs is a link to python/configs; the wheel gets the files.
    package_data={"sknet": ["configs/sknet/*.yaml", "data/*.txt"]},
    include_package_data=False,  # else MANIFEST.in, which is for the source archive, would decide
    ext_modules=[Extension("sknet_ops._native", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
    zip_safe=False,
)
