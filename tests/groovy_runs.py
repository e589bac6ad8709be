"""A program: run a Groovy script on images of a project as QuPath's *Run for project* does, and save them.
Starts Java, so it is run in a process of its own:
``python groovy_runs.py PROJECT SCRIPT [--select CLASS] [--args WORD] [--without-saving] ENTRY_ID...``.
Prints the ids of the detections in each image, as they are in memory, a line of JSON an image."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("project", type=Path)
    parser.add_argument("script")
    parser.add_argument("--select", help="annotations of this class are selected")
    parser.add_argument("--args", default=[], nargs=1, help="a word for the script")
    parser.add_argument("--without-saving", action="store_true")
    parser.add_argument("entries", nargs="+")
    asked = parser.parse_args()

    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever Java and the script print goes to standard error
    from paquo import java
    from paquo.jpype_backend import JClass
    from paquo.projects import QuPathProject

    java.LogManager.setWarn()
    project = QuPathProject(asked.project, mode="r").java_object
    qp, shell = JClass("qupath.lib.scripting.QP"), JClass("groovy.lang.GroovyShell")
    for entry in project.getImageList():
        if str(entry.getID()) in asked.entries:
            data = entry.readImageData()
            qp.setBatchProjectAndImage(project, data)
            hierarchy = data.getHierarchy()
            wanted = [
                item
                for item in hierarchy.getAnnotationObjects()
                if asked.select and str(item.getPathClass()) == asked.select
            ]
            hierarchy.getSelectionModel().setSelectedObjects(java.ArrayList(wanted), None)
            binding = JClass("groovy.lang.Binding")()
            binding.setVariable("args", java.ArrayList(asked.args))
            shell(binding).evaluate(java.File(asked.script))
            if not asked.without_saving:
                entry.saveImageData(data)
            ids = [str(item.getID()) for item in hierarchy.getDetectionObjects()]
            print(json.dumps(ids), file=channel, flush=True)


if __name__ == "__main__":
    main()
