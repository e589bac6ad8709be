"""A worker process that answers lines of JSON within a time limit, or is ended."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from midog_qupath.errors import StoreError

#: Bytes of the worker's standard error that are kept, for the one line that explains an end.
KEPT_STDERR = 4096
#: Seconds a worker gets at least to start.
START_S = 90.0
#: Seconds a worker gets to end by itself once nobody asks any more.
GRACE_S = 3.0


class WorkerProcess:
    """``python -m MODULE PROJECT LIMIT`` with private pipes; started anew, never forked.

    Its standard error is read all the time and thrown away but for the end: a worker that prints
    without end fills neither a pipe nor the memory.
    """

    def __init__(self, module: str, project: Path, limit_s: float) -> None:
        self._limit_s = limit_s
        self._stderr = b""
        self._replies: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._process = subprocess.Popen(  # noqa: S603 (our own module and interpreter)
            [sys.executable, "-W", "ignore", "-m", module, str(project), str(limit_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Ctrl-C is for us: we end the worker and put back what it left half done.
            start_new_session=os.name == "posix",
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self._requests = cast(IO[bytes], self._process.stdin)
        # Threads, because Windows has no select for pipes.
        self._threads = [
            threading.Thread(target=self._pump_replies, daemon=True),
            threading.Thread(target=self._pump_stderr, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _pump_replies(self) -> None:
        for line in cast(IO[bytes], self._process.stdout):
            self._replies.put(line)
        self._replies.put(b"")

    def _pump_stderr(self) -> None:
        descriptor = cast(IO[bytes], self._process.stderr).fileno()
        while block := os.read(descriptor, 65536):
            self._stderr = (self._stderr + block)[-KEPT_STDERR:]

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def ask(self, request: dict[str, Any], about: str) -> Iterator[dict[str, Any]]:
        """Replies to a request up to the last one, which has ``done``.

        Raises StoreError, naming ``about``, when the worker refuses, ends, or is silent for longer than
        the time limit; it is ended in the last case.
        """
        try:
            self._requests.write(json.dumps(request).encode() + b"\n")
            self._requests.flush()
        except (OSError, ValueError) as error:  # a broken pipe, or one closed with the process
            raise self._ended(about) from error
        while "done" not in (reply := self._receive(about, self._limit_s)):
            yield reply

    def wait_until_ready(self, about: str) -> None:
        """Wait for the greeting of the worker; a start from a cold disk gets more time than a request."""
        self._receive(about, max(self._limit_s, START_S))

    def _receive(self, about: str, limit_s: float) -> dict[str, Any]:
        try:
            line = self._replies.get(timeout=limit_s)
        except queue.Empty:
            self.kill()
            raise StoreError(
                f"QuPath did not answer within {limit_s:g} s for {about}; it was ended.",
                "See whether the image opens in QuPath, or use --store native.",
            ) from None
        if not line.endswith(b"\n"):
            raise self._ended(about)
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise StoreError(
                f"QuPath could not work on {about}: {reply['error']}.",
                "See whether the image opens in QuPath, or use --store native.",
            )
        return reply

    def _ended(self, about: str) -> StoreError:
        self.kill()
        lines = self._stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"]
        return StoreError(
            f"The process that runs QuPath ended while it worked on {about}: {lines[-1][:300]}.",
            "Try again, or use --store native.",
        )

    def close(self) -> None:
        """End the worker politely, or by force after a moment."""
        try:
            self._requests.close()
            self._process.wait(GRACE_S)
        except (OSError, subprocess.TimeoutExpired):
            pass
        self.kill()

    def kill(self) -> None:
        """End the worker now; nothing of it runs any more when this returns."""
        self._process.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join(GRACE_S)
        for stream in (self._requests, self._process.stdout, self._process.stderr):
            if stream:
                _close_quietly(stream)


def _close_quietly(stream: IO[bytes]) -> None:
    try:
        stream.close()
    except OSError:
        return  # what was not yet sent has nobody left to read it
