"""The package's metadata, in one place. Tool settings are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

LOCAL = ["cryptography>=42", "moto>=5.2", "waitress>=3.0.1"]
PLOTS = ["matplotlib>=3.8"]

setup(
    name="cloudknot",
    version="1.0.0.dev0",
    description="Run your own Python function on AWS Batch, from your own Python session",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    url="https://github.com/nrdg/cloudknot",
    packages=find_packages(include=["cloudknot", "cloudknot.*"]),
    package_data={"cloudknot": ["py.typed", "image/Dockerfile", "deploy/cloudformation/*.yaml"]},
    python_requires=">=3.11",
    install_requires=[
        "boto3>=1.40",
        "click>=8.1",
        "cloudpickle>=3.0",
        "docker>=7.1",
        "filelock>=3.30",
        "packaging>=23.2",
        "pipreqs>=0.4.13,<0.5",
        "PyYAML>=6.0",
        "rich>=13.7",
        "urllib3>=2.1",
        "uv>=0.8",
    ],
    extras_require={
        "local": LOCAL,
        "plots": PLOTS,
        # The libraries that the scripts and notebooks of examples/ call.
        "examples": [*LOCAL, *PLOTS, "dipy>=1.10", "laptrack>=0.16", "scikit-image>=0.22", "tifffile>=2024.1"],
        "test": [
            *LOCAL,
            "cfn-lint>=1.40",
            "hypothesis>=6.100",
            "moto[server]>=5.2",
            "ipykernel>=6.29",
            "mypy>=1.11",
            "nbclient>=0.10",
            "nbformat>=5.10",
            "numpy>=1.26",
            # It reads lock files.
            "packaging>=26.0",
            "psutil>=5.9",
            "pytest>=8.2",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "ruff>=0.8",
            "simpy>=4.1",
            "types-boto3-lite[batch,cloudformation,ec2,ecr,iam,logs,s3,sts]>=1.43",
            "types-docker>=7.1",
        ],
    },
    entry_points={"console_scripts": ["cloudknot=cloudknot.cli.main:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: MIT License",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering",
        "Typing :: Typed",
    ],
)
