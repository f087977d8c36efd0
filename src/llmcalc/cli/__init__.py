"""The command line: one file a command, each a thin call of `llmcalc.api`.

`main` is the console script. It answers in a blink, so each command is imported when it is asked
for, the garbage collector rests, and the interpreter is left without tearing every module down.
"""

from __future__ import annotations

import gc
import os
import sys

gc.disable()  # a short run allocates little; collecting while modules load costs a tenth of the start

import contextlib  # noqa: E402

import click  # noqa: E402

from llmcalc._version import __version__  # noqa: E402
from llmcalc.errors import LlmcalcError  # noqa: E402

COMMANDS = {
    "vram": "Memory at inference: weights, KV cache, state, runtime.",
    "fit": "Does it fit, and what would make it.",
    "train": "Memory of training and fine-tuning.",
    "params": "Parameters by role, all and active.",
    "quant": "One model in many formats.",
    "compare": "Several models side by side.",
    "chinchilla": "Parameters and tokens of a training budget.",
    "hparams": "Learning rate and batch by scaling laws.",
    "validate": "Predictions beside measurements; your own logs.",
    "models": "The catalog of models.",
    "gpus": "The catalog of GPUs.",
    "formats": "Number formats and quantization schemes.",
    "optimizers": "The catalog of optimizers.",
    "laws": "The catalog of scaling laws.",
    "explain": "A formula with its source.",
    "completion": "Completion for bash, zsh or fish.",
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of the list above."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        from importlib import import_module

        command: click.Command = import_module(f"llmcalc.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, with the nearest one where it is misspelt."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from llmcalc.errors import did_you_mean

            near = did_you_mean(args[0], COMMANDS)
            hint = f"Did you mean {' or '.join(near)}? " if near else ""
            ctx.fail(f"There is no command {args[0][:40]!r}.\n{hint}llmcalc --help lists all commands.")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, "-V", "--version", prog_name="llmcalc", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Memory and capacity of large language models, with a grade and a source on every number.

    \b
    llmcalc vram --params 13b --bits 4
    llmcalc vram llama-3.1-8b --ctx 32k --gpu rtx-4090
    llmcalc params gpt-3
    """
    ctx.obj = {"debug": debug}


def run(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; errors go to stderr with their remedy last."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        code = _invoke(list(words))
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        return _quiet()
    except Exception as error:
        if "--debug" in words:
            import traceback

            traceback.print_exc()
            return 2
        return _fail(*_told(error, words))


def _invoke(words: list[str]) -> int:
    """Parse and run; click's own `main` would turn a closed pipe into exit code 1, which means no fit."""
    if "_LLMCALC_COMPLETE" in os.environ:
        cli.main(words, prog_name="llmcalc")
    try:
        with cli.make_context("llmcalc", words) as context:
            result = cli.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.exceptions.NoArgsIsHelpError as bare:
        click.echo(bare.format_message())
        return 2
    return result if isinstance(result, int) else 0


def _told(error: Exception, words: list[str]) -> tuple[str, int]:
    """What to print for an error, and the exit code."""
    if isinstance(error, LlmcalcError):
        return str(error), error.exit_code
    if isinstance(error, click.ClickException):
        message = error.format_message()
        if "\n" in message:
            return message, 2
        context = getattr(error, "ctx", None)
        command = next((word for word in words if word in COMMANDS), "")
        path = context.command_path if context is not None else f"llmcalc {command}".strip()
        return f"{message}\n{path} --help shows what it takes.", 2
    if isinstance(error, RecursionError):
        return "The input is nested too deeply.\nGive the model's config.json.", 2
    if isinstance(error, OSError):
        return f"{error.filename or 'Output'}: {error.strerror}.\nCheck the path and its permissions.", 2
    told = f"{type(error).__name__}: {error}".split("\n")[0][:200]
    return f"Internal error, which is a bug of llmcalc: {told}.\nReport it with llmcalc --debug ...", 2


def _fail(message: str, code: int) -> int:
    from llmcalc.cli.options import for_terminal

    with contextlib.suppress(OSError, ValueError):
        click.echo(for_terminal(f"Error: {message}"), err=True)
    return code


def _quiet() -> int:
    """A closed pipe ends quietly: nothing is left to flush into it."""
    with contextlib.suppress(OSError):
        sys.stdout.close()
    sys.stdout = None
    return 0


def main() -> None:
    """The console script."""
    code = run()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            if stream is not None:
                stream.flush()
    # Modules need no teardown at the end of a process: it costs as much as the estimate itself.
    os._exit(code)


if __name__ == "__main__":
    main()
