"""Run in a process of its own: put one object of every kind and shape into an image, by QuPath's own classes.

Arguments: the project, the image's entry id, an area with a hole as hexadecimal well-known binary.
"""

from __future__ import annotations

import sys

import jpype
from paquo import java
from paquo.projects import QuPathProject

ImagePlane = jpype.JClass("qupath.lib.regions.ImagePlane")
PLANE = ImagePlane.getPlaneWithChannel(-1, 1, 2)
ROIs, PathObjects, PathClass = java.ROIs, java.PathObjects, java.PathClass


def doubles(*values: float):
    return jpype.JArray(jpype.JDouble)(values)


def shapes() -> list:
    plane = ImagePlane.getDefaultPlane()
    ring = java.WKBReader().read(java.WKBReader.hexToBytes(sys.argv[3]))
    return [
        ROIs.createRectangleROI(10.5, 20.25, 30, 40, plane),
        ROIs.createEllipseROI(50, 60, 33.3, 22.2, plane),
        ROIs.createLineROI(1, 2, 30.5, 44.25, plane),
        ROIs.createPolylineROI(doubles(1, 5, 9), doubles(2, 7, 3), plane),
        ROIs.createPolygonROI(doubles(100, 150.1, 120), doubles(100, 101, 140.7), PLANE),
        ROIs.createPolygonROI(doubles(0, 10, 10, 0), doubles(0, 10, 0, 10), plane),  # crosses itself
        ROIs.createPointsROI(doubles(7, 8.5), doubles(9, 10.5), plane),
        ROIs.createPointsROI(doubles(70), doubles(90), plane),
        java.GeometryTools.geometryToROI(ring, PLANE),
    ]


def nested() -> list:
    square = ROIs.createRectangleROI(200, 200, 100, 100, PLANE)
    inner = ROIs.createEllipseROI(220, 220, 20, 20, PLANE)
    cell = PathObjects.createCellObject(square, inner, PathClass.fromString("Tumor: Positive"), None)
    cell.getMeasurementList().put("not a number", float("nan"))
    detection = PathObjects.createDetectionObject(inner, PathClass.fromString("Mitosis"))
    detection.getMeasurementList().put("endless", float("inf"))
    detection.getMeasurementList().put("third", 1 / 3)
    detection.getMeasurementList().close()
    tile = PathObjects.createTileObject(inner)
    parent = PathObjects.createAnnotationObject(square, PathClass.fromString("Region*"))
    parent.setName("ä: \U0001f52c \n\"quoted\" 'n' \u2028")
    parent.setLocked(True)
    parent.setColor(java.Integer(-65536))
    parent.getMetadata().put("key", "value")
    parent.getMeasurementList().put("fourth", 0.25)
    cell.addChildObject(detection)
    parent.addChildObject(cell)
    parent.addChildObject(tile)
    core = PathObjects.createTMACoreObject(500, 500, 80, False)
    core.setName("A-1")
    return [parent, core]


def main() -> None:
    project = QuPathProject(sys.argv[1], mode="r").java_object
    entry = next(item for item in project.getImageList() if str(item.getID()) == sys.argv[2])
    hierarchy = entry.readHierarchy()
    new = [PathObjects.createAnnotationObject(roi) for roi in shapes()]
    hierarchy.addObjects(java.ArrayList(new + nested()))
    image_data = java.ImageData(entry.getServerBuilder().build(), hierarchy, java.ImageType.UNSET)
    entry.saveImageData(image_data)


if __name__ == "__main__":
    main()
