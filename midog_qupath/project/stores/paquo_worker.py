"""The process that holds QuPath's Java machine, for :class:`~midog_qupath.project.stores.paquo.PaquoStore`.

Started as ``python -m midog_qupath.project.stores.paquo_worker PROJECT LIMIT``. A request is one line of
JSON on standard input, a reply one or more lines of JSON on what was standard output; everything that
QuPath, Java or a library prints goes to standard error instead. Importing paquo starts the Java machine,
so nothing but this process may import it.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from midog_qupath.project.stores.paquo_bridge import Bridge, RefusedError


def main() -> None:
    """Answer requests until standard input ends. Arguments: the ``.qpproj`` file, seconds."""
    project_path, limit_s = Path(sys.argv[1]), float(sys.argv[2])
    channel = _private_channel()
    requests = _requests(limit_s)
    import jpype

    try:
        bridge = Bridge(project_path)
    except (RefusedError, OSError, ValueError, RuntimeError, jpype.JException) as error:
        _reply(channel, {"error": _one_line(error)})
        return
    _reply(channel, {"ready": bridge.version})
    for request in requests:
        try:
            for line in bridge.answer(request):
                _send(channel, line)
        except (RefusedError, OSError, ValueError, jpype.JException) as error:
            _reply(channel, {"error": _one_line(error)})


def _private_channel() -> BinaryIO:
    # Java's logger and any library print to descriptor 1: that becomes standard error.
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return channel


def _requests(limit_s: float) -> Iterator[dict[str, Any]]:
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def pump() -> None:
        for line in sys.stdin.buffer:
            lines.put(line)
        lines.put(b"")
        # Whoever asked is gone. A save under way may end, a loop without end in Java may not live on.
        time.sleep(limit_s)
        os._exit(1)

    threading.Thread(target=pump, daemon=True).start()
    return map(json.loads, iter(lines.get, b""))


def _reply(channel: BinaryIO, value: dict[str, Any]) -> None:
    _send(channel, json.dumps(value))


def _send(channel: BinaryIO, line: str) -> None:
    channel.write(line.encode("utf-8", "surrogatepass") + b"\n")
    channel.flush()


def _one_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


if __name__ == "__main__":
    main()
