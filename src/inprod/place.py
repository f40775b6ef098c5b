"""Where an inprod on this machine keeps its things: the data folder and the files others look for.

<data>/admin.key     the first key, mode 0600
<data>/server.json   {"pid", "url"} while a server runs
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

KEY_FILE = "admin.key"
SERVER_FILE = "server.json"
URL_DEFAULT = "http://127.0.0.1:4318"


def data_folder(given: str, environ: Mapping[str, str]) -> Path:
    """Return the absolute data folder: `given`, else below `$XDG_DATA_HOME`, else below home."""
    if given:
        return Path(given).expanduser().absolute()
    root = environ.get("XDG_DATA_HOME") or str(Path(environ.get("HOME", "~")) / ".local/share")
    return (Path(root).expanduser() / "inprod").absolute()
