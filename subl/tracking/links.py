"""Addresses into the MLflow UI that open where a reader wants to be."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from subl.tracking.tracker import database_uri
from subl.tracking.view import VIEW

# Without these, the UI opens an experiment on a page about traces, with child runs folded away and no chart.
_PAGE = f"workflowType=machine_learning&viewStateShareKey={VIEW}&compareRunsMode=CHART"


def experiment_page(server: str, experiment: str) -> str:
    """Return the address where an experiment's arms stand side by side."""
    return f"{server}/#/experiments/{experiment}/runs?{_PAGE}"


def experiment_links(uri: str, experiment: str, run: str | None) -> dict[str, str]:
    """Return label → address on a tracking server; empty for a database."""
    if not re.match(r"https?://", uri):
        return {}
    server = re.sub(r"//[^/@]+@", "//", uri).rstrip("/")
    links = {"experiment": experiment_page(server, experiment)}
    return links if run is None else {**links, "run": f"{server}/#/experiments/{experiment}/runs/{run}"}


def database_links(uri: str, home: Path) -> dict[str, str]:
    """Return label → the command that shows a database; empty for a server."""
    if uri == database_uri(home):
        default = home == Path(".subl").absolute()
        return {"experiment": "subl ui" if default else f"subl ui --store {shlex.quote(str(home))}"}
    return {"experiment": f"mlflow ui --backend-store-uri {shlex.quote(uri)}"} if uri.startswith("sqlite:") else {}
