"""Maps the top-level folders into the package and builds liblpsnet with CMake. The metadata is in pyproject.toml."""

import os
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()

PACKAGE_DIRS = {"lpsnet": "lpsnet", "lpsnet.engine": "engine", "lpsnet.export": "export"}


def packages() -> list[str]:
    mapped = []
    for name, folder in PACKAGE_DIRS.items():
        mapped += [name, *(f"{name}.{child}" for child in find_packages(folder))]
    return mapped


class CMakeBuild(build_ext):
    """Builds liblpsnet and puts it into lpsnet/native: in the source tree for an editable install."""

    def get_ext_filename(self, fullname: str) -> str:
        # A C library bound by ctypes: its name carries no Python version.
        return str(Path(*fullname.split("."))) + ".so"

    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        build = Path(self.build_temp).resolve()
        build.mkdir(parents=True, exist_ok=True)
        options = os.environ.get("CMAKE_ARGS", "").split()
        try:
            subprocess.run(["cmake", "-S", ROOT, "-B", build, "-G", "Ninja", *options], check=True)
            subprocess.run(["cmake", "--build", build], check=True)
            subprocess.run(["cmake", "--install", build, "--prefix", target], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            sys.exit(f"liblpsnet: the build failed: {error}. It needs a C++17 compiler; see the lines above.")


setup(
    packages=packages(),
    package_dir=PACKAGE_DIRS,
    include_package_data=False,
    package_data={"lpsnet": ["category_tables/*.json", "checkpoints/*", "photographs/*", "py.typed"]},
    ext_modules=[Extension("lpsnet.native.liblpsnet", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
