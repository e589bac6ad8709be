"""A program: what QuPath's own classes find in a project, a line of JSON an image. Starts Java, so it is
run in a process of its own: ``python qupath_opens.py PROJECT``."""

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
    from paquo.projects import QuPathProject

    java.LogManager.setWarn()
    project = QuPathProject(sys.argv[1], mode="r").java_object
    for entry in project.getImageList():
        print(json.dumps(describe(JClass, entry)), file=channel, flush=True)


def describe(jclass: Any, entry: Any) -> dict[str, Any]:
    """Name, whether objects are there, the builder QuPath would write, and pixels at its coarsest level."""
    gson = jclass("qupath.lib.io.GsonTools").getInstance()
    kind = jclass("qupath.lib.images.servers.ImageServerBuilder$ServerBuilder")
    builder = entry.getServerBuilder()
    plain = jclass(json.loads(str(gson.toJson(builder, kind)))["providerClassName"])()
    own = plain.buildServer(builder.getURIs().iterator().next())
    server = builder.build()
    # QuPath 0.6 gave it another name.
    metadata = entry.getMetadata() if hasattr(entry, "getMetadata") else entry.getMetadataMap()
    levels = server.nResolutions()
    downsample = server.getDownsampleForResolution(levels - 1)
    request = jclass("qupath.lib.regions.RegionRequest").createInstance(server, downsample)
    image = server.readRegion(request)
    corner = int(image.getRGB(10, 10)) & 0xFFFFFF
    return {
        "name": str(entry.getImageName()),
        "has_data": bool(entry.hasImageData()),
        "objects": int(entry.readHierarchy().nObjects()),
        "mpp": float(server.getPixelCalibration().getAveragedPixelSizeMicrons()),
        "metadata": {str(key): str(metadata.get(key)) for key in metadata.keySet()},
        "levels": levels,
        "rgb": [corner >> 16, corner >> 8 & 255, corner & 255],
        "ours": json.loads(str(gson.toJson(builder, kind))),
        "own": json.loads(str(gson.toJson(own.getBuilder(), kind))),
    }


if __name__ == "__main__":
    main()
