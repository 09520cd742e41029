# SPDX-License-Identifier: Apache-2.0
"""Metadata of llamafactory-mmself and the installation of its activation file."""

import re
from distutils.command.install_data import install_data
from pathlib import Path

from setuptools import Distribution, find_packages, setup


ROOT = Path(__file__).resolve().parent
PACKAGE = "llamafactory_mmself"

INSTALL_REQUIRES = [
    # The plugin replaces functions inside LLaMA-Factory and checks them against this release.
    "llamafactory==0.9.5",
    "torch>=2.11,<2.12",
    "torchvision>=0.26,<0.27",
    "torchaudio>=2.11,<2.12",
    # 5.6.0 has a broken FlashAttention-2 path.
    "transformers>=5.5.3,<5.6",
    "trl>=0.24,<0.25",
    "peft>=0.18,<0.19",
    "accelerate>=1.11,<1.12",
    "datasets>=4.0,<5",
    "filelock>=3.13",
    "httpx>=0.27",
    "math-verify>=0.9,<0.10",
    "matplotlib>=3.7",
    "numpy>=2",
    "pillow>=10.4",
    "pyyaml>=6",
    "scipy>=1.11",
    "tqdm>=4.66",
]

EXTRAS_REQUIRE = {
    # The release whose requirements meet torch 2.11 and transformers 5.5.
    "vllm": ["vllm==0.24.0"],
    # Builds its operators with the torch that is installed: install torch and wheel first, then use
    # `pip install --no-build-isolation`.
    "deepspeed": ["deepspeed==0.18.4"],
    "xformers": ["xformers>=0.0.35,<0.0.36"],
    # Sampling on a cluster.
    "ray": ["ray[data]>=2.54,<3"],
    "serve": ["diffusers>=0.42,<1", "fastapi", "uvicorn"],
    "eval": ["nltk>=3.9,<4", "spacy>=3.8,<3.9"],
    "docs": [
        "ipykernel>=7.4,<8",
        "mkdocs>=1.6,<2",
        "mkdocs-material>=9.6,<10",
        "nbclient>=0.11,<1",
        "nbformat>=5.11,<6",
    ],
    "dev": [
        "build>=1.2",
        "coverage>=7.10,<8",
        "diffusers>=0.42,<1",
        "hypothesis>=6.100",
        "ipykernel>=7.4,<8",
        "mkdocs>=1.6,<2",
        "mkdocs-material>=9.6,<10",
        "mypy>=2.4,<3",
        "nbclient>=0.11,<1",
        "nbformat>=5.11,<6",
        "playwright>=1.65,<2",
        "pytest>=9,<10",
        "pytest-xdist>=3.8,<4",
        "ray[data]>=2.54,<3",
        "ruff>=0.17,<0.18",
        "setuptools>=77",
        "types-PyYAML",
        "wheel",
    ],
}

ENTRY_POINTS = {
    "console_scripts": [
        "mmself = llamafactory_mmself.cli:main",
        "llamafactory-mmself = llamafactory_mmself.cli:main",
    ],
    "llamafactory.stages": [
        "mdpo = llamafactory_mmself.stages.mdpo.stage:STAGE",
        "reflection_sft = llamafactory_mmself.stages.reflection_sft.stage:STAGE",
        "ares_ppo = llamafactory_mmself.stages.ares_ppo.stage:STAGE",
        "sherlock_dpo = llamafactory_mmself.stages.sherlock_dpo.stage:STAGE",
    ],
    "llamafactory.dataset_formats": ["mmself = llamafactory_mmself.plugin.formats:MMSelfConverter"],
    "vllm.general_plugins": ["mmself = llamafactory_mmself.generate.vllm_names:register"],
    "llamafactory.plugins": ["mmself = llamafactory_mmself._autoload:activate"],
}


class InstallBesidePackages(install_data):
    """Puts data files where the packages go, not under ``sys.prefix``.

    Python reads ``.pth`` files from there only. Wheels and editable wheels (PEP 660) collect their data files through
    this command, so both carry the activation file and list it in RECORD, which is what uninstalling follows.
    """

    def finalize_options(self) -> None:
        self.set_undefined_options("install", ("install_lib", "install_dir"), ("root", "root"), ("force", "force"))


class DataInEditableWheels(Distribution):
    """Answers the question by which setuptools (77 to 84) decides whether an editable wheel gets data files.

    It looks for a method `has_data`, the distribution has `has_data_files`, and so none would be added.
    """

    def has_data(self) -> bool:
        return bool(self.has_data_files())


def read_version() -> str:
    """Reads ``__version__`` from the package as text, without importing it."""
    source = (ROOT / PACKAGE / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', source, flags=re.MULTILINE)
    if match is None:
        raise ValueError(f'{PACKAGE}/__init__.py has no line of the form: __version__ = "1.2.3"')
    return match.group(1)


setup(
    name="llamafactory-mmself",
    version=read_version(),
    description="Multimodal self-improvement training stages for LLaMA-Factory",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["LLaMA-Factory", "vision-language models", "self-improvement", "preference optimization", "DPO", "OViP"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    python_requires=">=3.11",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={PACKAGE: ["py.typed", "**/*.txt", "**/*.json", "**/*.yaml", "toyworld/base/*"]},
    data_files=[("", ["llamafactory_mmself_autoload.pth"])],
    distclass=DataInEditableWheels,
    cmdclass={"install_data": InstallBesidePackages},
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
    entry_points=ENTRY_POINTS,
)
