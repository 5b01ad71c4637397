"""Starts the command `froster`.

It is outside of the package froster, which the archiving tool `froster` of PyPI, another project, may have overwritten
or hidden: pip installs two distributions over each other without a word.
"""

import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

ALL_OF_CLI = ("typer", "rich", "matplotlib", "markdown_it")  # the packages of the extra `cli`


def main() -> None:
    """Run the command line; where what is installed cannot run it, say so and exit with status 2."""
    try:
        import froster

        trouble = conflict(froster)
    except ImportError as error:  # froster's own check
        trouble = str(error)
    if not trouble and not all(map(find_spec, ALL_OF_CLI)):
        from froster.extras import needs_extra

        trouble = needs_extra("The command froster", "cli")
    if trouble:
        print(f"froster: {trouble}", file=sys.stderr)
        sys.exit(2)
    from froster.cli import main as run

    run()


def conflict(package: ModuleType) -> str:
    """What is wrong with the package that `import froster` found; empty where it is ours and whole."""
    folders = [Path(folder) for folder in getattr(package, "__path__", ())]
    if any((folder / "froster.py").exists() for folder in folders):  # the other project's only module
        return (
            f"{folders[0]} holds the archiving tool froster of PyPI, another project with a package of the same name. "
            "One environment can hold only one of them: make a new one and install froster-video there, or "
            "pip uninstall froster froster-video, then install froster-video again."
        )
    if not any((folder / "cli" / "__init__.py").exists() for folder in folders) or "load_model" not in dir(package):
        place = folders[0] if folders else package.__file__
        return (
            f"{place} is not the package froster of froster-video, or not all of it: rename a file or folder froster "
            "of your own, or pip uninstall froster-video, then install it again."
        )
    return ""
