"""Command lines: parameters as click options, help that fits a screen, two-line errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from alerts.cli.text import clean, clip
from alerts.readers import BOOLEAN, BadValue, Parameter, Reader

USAGE = 2  # the exit code
_SCREEN = {"max_content_width": 80}
_LONGEST_HELP = 54  # characters that stay on their option's line
_LONGEST_ERROR = 300

# act(environ, **values) runs the command and returns the exit code.
Act = Callable[..., int]


def command(
    name: str, about: str, parameters: Sequence[Parameter], act: Act, places: Sequence[str] = ()
) -> click.Command:
    """Build a command; the parameters named in ``places`` become arguments, in that order."""
    by_name = {parameter.name: parameter for parameter in parameters}
    arguments = [by_name[place] for place in places]
    options = [_option(p) for p in parameters if p.name not in places]

    @click.pass_context
    def callback(context: click.Context, /, **values: Any) -> int:
        try:
            return act(context.obj, **values)
        except BadValue as error:
            raise click.UsageError(
                f"{_shown(error.name, places)} takes {error.takes}", context
            ) from None

    return click.help_option(help="show this help")(
        click.Command(
            name,
            params=[*map(_argument, arguments), *options],
            help=about,
            short_help=about.rstrip("."),
            callback=callback,
            context_settings=_SCREEN,
        )
    )


class Commands(click.Group):
    """Commands in table order, with one line of help each."""

    def __init__(self, commands: Sequence[click.Command], about: str) -> None:
        super().__init__(
            commands={str(each.name): each for each in commands},
            help=about,
            context_settings=_SCREEN,
            no_args_is_help=False,
        )

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Show no options for the group itself; they belong to the commands."""
        return ["COMMAND [OPTIONS]"]

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands' names, in table order."""
        return list(self.commands)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Usage, one line per command, and where to find more."""
        self.format_usage(ctx, formatter)
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_dl(
                [(name, str(each.short_help)) for name, each in self.commands.items()]
            )
        formatter.write_paragraph()
        formatter.write_text(str(self.help))


def main(
    command: click.Command,
    name: str,
    arguments: Sequence[str] | None,
    environ: Mapping[str, str] | None,
) -> int:
    """Run the command and return its exit code; usage errors are reported in two lines."""
    try:
        code: int = command.main(
            args=None if arguments is None else list(arguments),
            prog_name=name,
            standalone_mode=False,
            obj=os.environ if environ is None else environ,
        )
    except click.UsageError as error:
        context = error.ctx or click.Context(command, info_name=name)
        usage = " ".join([context.command_path, *context.command.collect_usage_pieces(context)])
        told = clip(clean(_told(error)), _LONGEST_ERROR)
        print(f"{context.command_path}: {told}", file=sys.stderr)
        print(f"usage: {usage}; --help says more", file=sys.stderr, flush=True)
        return USAGE
    except click.Abort:  # Ctrl-C
        return 1
    return code


class _Value(click.ParamType[Any]):
    """A click type that parses with a reader."""

    def __init__(self, shown: str, reader: Reader[Any]) -> None:
        self.name, self.shown, self.reader = reader.placeholder, shown, reader

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self.reader.read(value)
        except ValueError:
            # The given value is not repeated, since it may be a secret.
            raise click.UsageError(f"{self.shown} takes {self.reader.takes}", ctx) from None


def _option(parameter: Parameter) -> click.Option:
    shown, reader = _shown(parameter.name), parameter.reader
    if reader is BOOLEAN:
        return click.Option([shown, parameter.name], is_flag=True, help=_help(parameter))

    def once(context: click.Context, option: click.Parameter, values: tuple[Any, ...]) -> Any:
        if len(values) > 1:
            raise click.UsageError(f"{shown} is given more than once", context)
        return values[0] if values else parameter.default

    return click.Option(
        [shown, parameter.name],
        type=_Value(shown, reader),
        metavar=reader.placeholder,
        required=parameter.required,
        multiple=True,
        callback=once,
        help=_help(parameter),
    )


def _argument(parameter: Parameter) -> click.Argument:
    shown = parameter.name.upper()
    return click.Argument(
        [parameter.name],
        type=_Value(shown, parameter.reader),
        metavar=shown if parameter.required else f"[{shown}]",
        required=parameter.required,
        help=_help(parameter) or None,
    )


def _shown(name: str, places: Sequence[str] = ()) -> str:
    return name.upper() if name in places else f"--{name.replace('_', '-')}"


def _help(parameter: Parameter) -> str:
    """Describe the option, including its allowed words if there are few."""
    told, reader = parameter.about, parameter.reader
    if reader.placeholder == "WORD":
        whole = f"{told}: {reader.takes}" if told else reader.takes
        told = whole if not told or len(whole) <= _LONGEST_HELP else told
    return f"{told} (default {parameter.default})" if parameter.default else told


def _told(error: click.UsageError) -> str:
    if isinstance(error, click.MissingParameter) and error.param is not None:
        value = error.param.type
        if isinstance(value, _Value):
            return f"{value.shown} is missing; it takes {value.reader.takes}"
    return error.format_message().rstrip(".")
