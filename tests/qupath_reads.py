"""A program: what QuPath's own classes read from GeoJSON files, a line of JSON each. Starts Java, so it is
run in a process of its own: ``python qupath_reads.py FILE...``."""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def main() -> None:
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever Java prints goes to standard error
    from paquo import java
    from paquo.jpype_backend import JClass

    java.LogManager.setWarn()
    print(json.dumps(str(java.qupath_version)), file=channel)
    for path in sys.argv[1:]:
        print(json.dumps(read(JClass, path)), file=channel, flush=True)


def read(jclass: Any, path: str) -> dict[str, Any]:
    import jpype

    try:
        found = jclass("qupath.lib.io.PathIO").readObjects(jclass("java.nio.file.Path").of(path))
    except jpype.JException as error:
        return {"error": str(error)}
    return {"objects": [describe(thing) for thing in found]}


def describe(thing: Any) -> dict[str, Any]:
    roi, path_class, measured = thing.getROI(), thing.getPathClass(), thing.getMeasurementList().asMap()
    return {
        "id": str(thing.getID()),
        "kind": str(thing.getClass().getSimpleName()),
        "class": None if path_class is None else str(path_class),
        "color": None if path_class is None or path_class.getColor() is None else int(path_class.getColor()),
        "roi": str(roi.getRoiName()),
        "area": float(roi.getArea()),
        "points": int(roi.getNumPoints()),
        "measurements": {str(item.getKey()): float(item.getValue()) for item in measured.entrySet()},
        "children": int(thing.nChildObjects()),
    }


if __name__ == "__main__":
    main()
