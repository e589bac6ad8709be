"""A program: run a Groovy script on images of a project as QuPath's *Run for project* does, and save them.
Starts Java, so it is run in a process of its own: ``python groovy_runs.py PROJECT SCRIPT ENTRY_ID...``."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    from paquo import java
    from paquo.jpype_backend import JClass
    from paquo.projects import QuPathProject

    java.LogManager.setWarn()
    path, script, *wanted = sys.argv[1:]
    project = QuPathProject(Path(path), mode="r").java_object
    qp, shell = JClass("qupath.lib.scripting.QP"), JClass("groovy.lang.GroovyShell")
    for entry in project.getImageList():
        if str(entry.getID()) in wanted:
            data = entry.readImageData()
            qp.setBatchProjectAndImage(project, data)
            shell().evaluate(JClass("java.io.File")(script))
            entry.saveImageData(data)


if __name__ == "__main__":
    main()
