"""The command line's entry: names the commands, imports one only when it is called."""

from __future__ import annotations

import importlib
import signal
import sys

import click

import midog_qupath
from midog_qupath.errors import MidogError

#: Command -> one line of help; the module is ``midog_qupath.cli.<command>`` (- is _ there) with a click
#: command ``command``.
COMMANDS = {
    "info": "What is in a project, what is missing, which store reads it.",
    "new": "Make a QuPath project from images.",
    "import-labels": "Labels of MIDOG, COCO, CSV or GeoJSON files into a project.",
    "export": "Training data from what pathologists drew.",
    "train": "Train detector and classifier on a project or dataset.",
    "pseudo-masks": "The pixel masks that training learns from, to look at.",
    "annotate": "Find mitotic figures and put them into the project.",
    "undo": "Take a run out of a project again.",
    "backups": "The states of a project that were kept before it was changed.",
    "restore": "Put images back as they were in a backup.",
    "classify": "Tell normal from atypical mitotic figures in bare crops.",
    "evaluate": "Measure detections against the ground truth in the project.",
    "agreement": "How far two annotators, or a model and a person, agree.",
    "count": "Mitotic count in the hotspot of each image.",
    "table": "Detections of a run as CSV and Parquet.",
    "report": "One HTML page about a run or a model, with pictures and charts.",
    "doctor": "Whether this computer can do the work, and what to do where it cannot.",
    "scripts": "Copy the scripts for QuPath into the project.",
    "compile": "A model for CPUs without bf16, run by OpenVINO or ONNX Runtime.",
    "demo": "All of it on a generated project, in minutes, on a CPU.",
}


class LazyGroup(click.Group):
    """A group whose commands are imported when called: ``--help`` must not import torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order in which they are used."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module, or None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"midog_qupath.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from their one-liners, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(midog_qupath.__version__, prog_name="midog-qupath")
def cli() -> None:
    """Find mitotic figures in QuPath projects, tell atypical from normal, and put them back for review."""


def main() -> None:
    """Run a command; every failure is one line on stderr and an exit code other than 0."""
    # Whoever ends the program (a scheduler, Cancel in QuPath) gets what Ctrl-C gives: locks are let go.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        status = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        _fail("Cancelled.", 130)
    except KeyboardInterrupt:
        _fail("Cancelled.", 130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except MidogError as error:
        _fail(f"Error: {error}", 1)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        _fail(f"Error: {error.strerror or error}{where}. Check the disk and the permissions.", 1)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, code: int) -> None:
    click.echo(" ".join(message.split()), err=True)
    sys.exit(code)
