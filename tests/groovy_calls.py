"""A program: call the functions of a Groovy script on an image, and save the image.
Starts Java, so it is run in a process of its own: ``python groovy_calls.py PROJECT SCRIPT ENTRY_ID`` with
Groovy on standard input. It sees ``script`` (whose functions it calls; the script itself is not run),
``project``, ``entry`` and ``data``; what it gives is printed as a line of JSON."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever Java prints goes to standard error
    from paquo import java
    from paquo.jpype_backend import JClass
    from paquo.projects import QuPathProject

    java.LogManager.setWarn()
    path, script, wanted = sys.argv[1:]
    project = QuPathProject(Path(path), mode="r").java_object
    entry = next(one for one in project.getImageList() if str(one.getID()) == wanted)
    data = entry.readImageData()
    JClass("qupath.lib.scripting.QP").setBatchProjectAndImage(project, data)
    shell, binding = JClass("groovy.lang.GroovyShell"), JClass("groovy.lang.Binding")()
    values = {"script": shell().parse(java.File(script)), "project": project, "entry": entry, "data": data}
    for name, value in values.items():
        binding.setVariable(name, value)
    answer = shell(binding).evaluate(sys.stdin.read())
    entry.saveImageData(data)
    print(java.GsonTools.getInstance().toJson(answer), file=channel, flush=True)


if __name__ == "__main__":
    main()
