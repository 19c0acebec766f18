"""The console script ``merlinctl``, which is installed without its extra too."""

import sys


def main() -> None:
    """Run merlinctl, or say what it needs."""
    try:
        import click  # noqa: F401
    except ImportError:
        print(
            "merlinctl needs click and rich: pip install 'merlind[cli]', or -r requirements-cli.lock", file=sys.stderr
        )
        sys.exit(2)
    from merlind.cli.main import main

    main()
