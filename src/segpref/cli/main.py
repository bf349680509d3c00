"""Find the command, parse its options from its signature, and turn user mistakes into one sentence."""

from __future__ import annotations

import sys

from segpref.cli.shutdown import Stopped, guarded, stoppable
from segpref.process import processes_of_launch

# Everything else is imported where it is needed: `segpref --help` should not wait for torch, and what
# takes time to import is imported where Ctrl-C is a sentence.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

__all__ = ["COMMANDS", "USAGE", "main", "program"]

COMMANDS = {
    "demo": "everything once: base, judge, DPO and RN-DPO, on phantoms or on your data",
    "fit": "stage 1: train a base (or a judge) from a few labelled cases",
    "audit": "before training: what are the judge and the slates worth?",
    "align": "stage 2: a better segmenter from a judge's preferences on unlabelled images",
    "evaluate": "scores of a model on labelled cases",
    "predict": "masks of new images, in the images' own geometry",
    "sample": "several masks of new images from a diffusion model, with mean and uncertainty",
    "export": "a network as TorchScript or ONNX, checked against the original",
    "pack": "a dataset packed to 8 bits, for running a recipe on another machine",
    "study": "a grid of bases, judges, methods and seeds, resumable: tables, curves and a report",
    "ambiguity": "a study of diffusion models that draw many masks of one image, resumable",
    "prompted": "a study of promptable models: automatic prompts, ratings and rankings",
    "collect init": "masks of unlabelled images for people to compare, packed for the page",
    "collect serve": "the page on which people compare these masks",
    "collect raters": "who may vote: personal links, and the end of them",
    "collect report": "votes: who said what, how reliably, and which judge can be trusted",
    "collect backup": "a copy of all votes in one file, while voting goes on",
    "collect restore": "votes from a backup, into an empty database",
    "collect erase": "a patient's images, masks and votes, removed for good",
    "collect export": "votes in JSONL or Parquet with TRL's column names, with the masks",
    "collect import": "exported votes back into an empty study",
}

_WITHOUT_TORCH = ("collect serve", "collect raters", "collect backup", "collect restore")
"""Commands that should answer at once, and compute nothing."""

USAGE = """segpref makes medical image segmenters better from preferences instead of pixel labels.

usage: segpref COMMAND [options]        segpref COMMAND --help lists all options

{commands}

A first round on your own data (a folder of images with labels for some of them):

  segpref fit     --data DATA --labelled 3 --out runs/base
  segpref fit     --data DATA --split runs/base/split.json --part judge --out runs/judge
  segpref audit   --data DATA --model runs/base --judge runs/judge
  segpref align   --data DATA --model runs/base --judge runs/judge --out runs/rn-dpo
  segpref evaluate --data DATA --model runs/rn-dpo
  segpref predict --model runs/rn-dpo --input IMAGES --output masks
"""


def program() -> int:
    """The console script: the process belongs to segpref, so that it may be set up for training."""
    status = guarded(_whole)
    if processes_of_launch() == 1:
        return status
    from segpref.runtime import end_in_launch

    return end_in_launch(status)


def _whole() -> int:
    if (command := _split(sys.argv[1:])[0]) in COMMANDS:
        from segpref.terminal import print_uncaught

        if command not in _WITHOUT_TORCH:
            from segpref.process_setup import configure_process

            configure_process()
        sys.excepthook = print_uncaught
    return main()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        Exit status: 0, 1 after a mistake of the user or where memory ran out, 2 for a wrong command
        line, 128 + the number of a signal that stopped it.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(USAGE.format(commands=_listed(COMMANDS)))
        return 0 if given else 2
    if given[0] == "--version":
        from segpref.version import __version__

        print(f"segpref {__version__}")
        return 0
    command, options = _split(given)
    if command not in COMMANDS:
        if group := {name: COMMANDS[name] for name in COMMANDS if name.startswith(f"{command} ")}:
            print(f"usage: segpref {command} COMMAND [options]\n\n{_listed(group)}")
            return 0 if options in (["-h"], ["--help"]) else 2
        print(f"segpref: there is no command {command!r}: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return _run(command, options)


def _split(given: Sequence[str]) -> tuple[str, list[str]]:
    """The command, which may have two words, and its options."""
    words = 2 if " ".join(given[:2]) in COMMANDS else 1
    return " ".join(given[:words]), list(given[words:])


def _listed(commands: Mapping[str, str]) -> str:
    width = max(map(len, commands))
    return "\n".join(f"  {name:<{width}}  {text}" for name, text in commands.items())


def _configs(arguments: Sequence[str]) -> list[Path]:
    """The files that options are read from."""
    from itertools import pairwise
    from pathlib import Path

    joined = [one.removeprefix("--config=") for one in arguments if one.startswith("--config=")]
    return [Path(value) for option, value in pairwise(arguments) if option == "--config"] + list(
        map(Path, joined)
    )


def _read_configs(arguments: Sequence[str]) -> None:
    """Name a file of options that can't be read.

    Raises:
        SegprefError: there is one.
    """
    from segpref.trust import read_yaml
    from segpref.types import SegprefError

    for path in _configs(arguments):
        if not path.is_file():
            raise SegprefError(f"there is no file {path}: give --config a YAML file with options")
        content = read_yaml(path)
        if not isinstance(content, dict):
            raise SegprefError(
                f"{path} holds no options: write one on each line, such as epochs: 20"
            )


def _refuse_unclear(arguments: Sequence[str]) -> None:
    """Refuse a value that names something twice, such as ``--labels "{liver: 5, liver: 6}"``.

    Raises:
        SegprefError: there is one.
    """
    from itertools import pairwise

    from segpref.trust import refuse_repeats

    for before, argument in pairwise(["", *arguments]):
        name, joined, value = argument.partition("=")
        if not (joined and name.startswith("--")):
            name, value = before, argument
        if "{" in value:
            refuse_repeats(value, name)


def _run(command: str, arguments: list[str]) -> int:
    import warnings

    warnings.filterwarnings("ignore", category=FutureWarning)
    from jsonargparse import ArgumentError
    from rich.text import Text

    from segpref.cli.options import command_parser, with_settings
    from segpref.cli.out_of_memory import out_of_memory_message
    from segpref.cli.refusals import parser_sentence, refused_values
    from segpref.memory import ran_out
    from segpref.progress import console
    from segpref.terminal import one_line, set_up_messages
    from segpref.types import SegprefError

    def refused(reason: str) -> None:
        told = Text.assemble((f"segpref {command}:", "red"), " ", one_line(reason))
        console.print(told, soft_wrap=True)

    set_up_messages()
    parser, function = command_parser(command)
    values: Mapping[str, Any] = {}
    try:
        _read_configs(arguments)
        _refuse_unclear(arguments)
        with refused_values():
            options = parser.parse_args(arguments)
            settings = {
                k: v
                for k, v in options.as_dict().items()
                if k not in ("config", "resume", "keep_tuned")
            }
            values = parser.instantiate(options).as_dict()
        given = with_settings(function, values)
        with stoppable():
            function(**given, settings=settings)
    except ArgumentError as error:
        files = " and ".join(map(str, _configs(arguments)))
        where = f" (on the command line or in {files})" if files else ""
        refused(f"{parser_sentence(error)}{where}: segpref {command} --help lists all options")
        return 2
    except SegprefError as error:
        refused(str(error))
        return 1
    except (MemoryError, RuntimeError) as error:
        if not ran_out(error):
            raise
        refused(out_of_memory_message(error, command, values))
        return 1
    except KeyboardInterrupt as error:
        console.print(
            "Stopped. Give the same command again (fit and align: with --resume) to go on."
        )
        return error.status if isinstance(error, Stopped) else 130
    return 0


if __name__ == "__main__":
    sys.exit(program())
