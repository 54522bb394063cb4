"""`harness convert`: a checkpoint in another dialect or layer layout."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.checkpoints import asked, moving, write_json
from harness.cli.usage import UsageError

__all__ = ["add_parser", "command"]

TARGETS = ("auto", "linen", "nnx", "D1", "D2", "D3", "D4")
DIRECTIONS = {"auto": "auto", "linen_to_nnx": "nnx", "nnx_to_linen": "linen"}
FORMATS = {"D1": "linen", "D2": "linen", "D3": "nnx", "D4": "nnx"}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `convert`."""
    parser = subparsers.add_parser("convert", help="convert a checkpoint between Linen's and NNX's layouts")
    parser.add_argument("source", metavar="SRC", help="a step directory, its items folder, or a manager's root")
    parser.add_argument("target", metavar="DST", help="a folder that does not exist yet")
    dialects = f"auto (default, the other format) or one of {', '.join(TARGETS[1:])}"
    parser.add_argument("--to", choices=TARGETS, default="", metavar="DIALECT", help=dialects)
    parser.add_argument("--direction", choices=tuple(DIRECTIONS), default="auto", help="the same, said as a way")
    parser.add_argument("--scan-layers", action="store_true", help="stack the layers of the target")
    parser.add_argument("--no-scan-layers", action="store_true", help="give each layer of the target its own subtree")
    parser.add_argument("--scan-axis", type=_axis, default=1, metavar="N", help="where layers are stacked (default 1)")
    words = "layers in a block of the scanned target, where layers are of several kinds (default 1)"
    parser.add_argument("--layer-cycle", type=_cycle, default=1, metavar="N", help=words)
    words = "share the source's data files, copy them, or (default) share them where the file system can"
    parser.add_argument("--mode", choices=("auto", "link", "copy"), default="auto", help=words)
    parser.add_argument("--verify", action="store_true", help="read every value back and compare it with its source")
    parser.add_argument("--json", default="", metavar="PATH", help="write the report here too")


def command(args: argparse.Namespace) -> int:
    """Converts and says what was written. 0 done; a refusal is UsageError, exit code 2."""
    if args.scan_layers and args.no_scan_layers:
        raise UsageError("--scan-layers and --no-scan-layers contradict each other: give one, or neither to keep")
    layout = "scanned" if args.scan_layers else "unscanned" if args.no_scan_layers else "keep"
    to = _target(args.to, args.direction)

    def ask(tools):
        source, target = Path(args.source), Path(args.target)
        if args.direction != "auto":
            _check_source(tools, source, args.direction)
        request = tools.Request(
            source=source,
            target=target,
            to=to,
            layout=layout,
            scan_axis=args.scan_axis,
            cycle=args.layer_cycle,
            mode=args.mode,
            verify="values" if args.verify else "structure",
        )
        with moving() as watch:
            report = tools.convert_as(request, watch)
        return tools.conversion_text(report), tools.as_data(report)

    text, data = asked(args.json, ask)
    print(text)
    write_json(args.json, data)
    return 0


def _target(to: str, direction: str) -> str:
    """What --to and --direction ask for together. Raises UsageError where they contradict each other."""
    way = DIRECTIONS[direction]
    if to in ("", "auto"):
        return way
    if way != "auto" and FORMATS.get(to, to) != way:
        raise UsageError(f"--to {to} and --direction {direction} contradict each other: give one of them")
    return to


def _check_source(tools, source: Path, direction: str) -> None:
    """Raises CheckpointError where the source is not in the format that the direction starts from."""
    dialect, wanted = tools.inspect(source).dialect, direction.split("_to_")[0]
    if FORMATS[dialect] != wanted:
        raise tools.CheckpointError(
            f"{source} is a {FORMATS[dialect]} checkpoint already ({dialect}), --direction {direction} starts from "
            f"{wanted}: leave the direction out, or give --to {dialect} to change the layout alone"
        )


def _axis(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def _cycle(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a block holds a whole number of layers, at least 1")
    return int(text)
