"""What merlind needs and where its parts go; the exact versions are in requirements.lock."""

from pathlib import Path

from setuptools import setup

setup(
    name="merlind",
    version="1.0.0",
    description="Tells how well a name suits a person: a durable asynchronous gateway to merlinface",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=["merlind", "merlind.merlinface", "merlind.web", "twisted.plugins"],
    package_data={"merlind": ["schema/*.sql", "py.typed"], "merlind.web": ["*.html"]},
    install_requires=[
        "hyperlink>=21.0",
        "klein>=24.8",
        "multipart>=1.3.1",
        "prometheus_client>=0.21",
        "treq>=25.5",
        "Twisted[tls]>=26.10.0",
        "werkzeug>=3.0",
    ],
    zip_safe=False,
)
