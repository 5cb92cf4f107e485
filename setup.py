"""Packaging of nnunet_transfer; all metadata live here, tool settings in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

if __name__ == "__main__":  # nnU-Net may import every module of a folder: never run setup() then
    setup(
        name="nnunet_transfer",
        version="0.1.0",
        description="Transfer learning for nnU-Net v2: sources, fine-tuning arms, data conversion, comparison",
        long_description=(HERE / "README.md").read_text(encoding="utf-8"),
        long_description_content_type="text/markdown",
        license="Apache-2.0",
        license_files=["LICENSE"],
        python_requires=">=3.10,<3.14",
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
            "Jinja2>=3.1",
            "MarkupSafe>=2",
            # the workflow engine; every release since 8 needs Python 3.11
            "snakemake>=9.5; python_version >= '3.11'",
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
                "snakemake-executor-plugin-slurm>=2; python_version >= '3.11'",
            ],
            "coco": ["pycocotools>=2.0.8"],
            "synthesize": ["cornucopia>=0.5"],
            "slurm": ["snakemake-executor-plugin-slurm>=2; python_version >= '3.11'"],
            "lint": [
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
            "License :: OSI Approved :: Apache Software License",
            "Programming Language :: Python :: 3 :: Only",
            "Intended Audience :: Science/Research",
            "Topic :: Scientific/Engineering :: Medical Science Apps.",
        ],
    )
