"""The options that several verbs share."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout and nothing else.")]
Overrides = Annotated[list[str], typer.Option("--set", metavar="PATH=VALUE", help="Override a key of the recipe; may be repeated.")]
Out = Annotated[str, typer.Option("--out", metavar="FOLDER", help="Folder that holds the runs.")]
RecipePath = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe, a YAML file.")]
Plugins = Annotated[list[str], typer.Option("--plugin", metavar="FILE", help="A plugin that the bundle needs; may be repeated.")]
RunPath = Annotated[str, typer.Argument(metavar="RUN", help="A run's folder or a bundle.")]
