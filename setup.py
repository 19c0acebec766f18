"""What merlind needs, and what is packaged; the exact versions are in requirements.lock."""

import re
from pathlib import Path

from setuptools import find_namespace_packages, setup

HERE = Path(__file__).parent

setup(
    name="merlind",
    version=re.findall(r'^__version__ = "(.+)"$', (HERE / "merlind/__init__.py").read_text(encoding="utf-8"), re.M)[0],
    description="Tells how well a name suits a person: a durable asynchronous gateway to merlinface",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    # A namespace package, because twisted.plugins must have no __init__.py.
    packages=find_namespace_packages(include=["merlind", "merlind.*", "twisted.plugins"]),
    package_data={
        "merlind": ["py.typed"],
        "merlind.admin.page": ["*.css", "*.js"],
        "merlind.merlinface.scorer": ["data/*", "data/LICENSES/*"],
        "merlind.storage.sqlite": ["schema/*.sql"],
        "merlind.web": ["openapi.json"],
        "merlind.web.page": ["*.css", "*.html", "*.js", "*.json"],
    },
    install_requires=[
        "argon2-cffi>=25.1",
        "httptools>=0.8",
        "hyperlink>=21.0",
        "klein>=24.8",
        "multipart>=1.3.1",
        "prometheus_client>=0.21",
        "pyOpenSSL>=24.1",
        "service_identity>=24.1",
        "treq>=25.5",
        "Twisted[tls]>=26.10.0,<27",
        "werkzeug>=3.0",
    ],
    extras_require={
        # merlinctl.
        "cli": ["click>=8.5", "rich>=13.0"],
        # What the face scorer needs: without it, merlind is a gateway alone.
        "scorer": ["anyascii>=0.3.3", "numpy>=2.3", "onnxruntime>=1.24", "Pillow>=12.0", "pi-heif>=1.1"],
    },
    entry_points={"console_scripts": ["merlinctl = merlind.cli.script:main"]},
    zip_safe=False,
)
