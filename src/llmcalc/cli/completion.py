"""``llmcalc completion``."""

from __future__ import annotations

import click

from llmcalc.cli.options import choose, write

SHELLS = ("bash", "zsh", "fish")


@click.command("completion", short_help="Completion for a shell.")
@click.argument("shell")
def command(shell: str) -> int:
    """Print the script that completes llmcalc's commands and options in SHELL: bash, zsh or fish.

    \b
    bash:  eval "$(llmcalc completion bash)"
    zsh:   eval "$(llmcalc completion zsh)"
    fish:  llmcalc completion fish | source
    """
    from click.shell_completion import get_completion_class

    from llmcalc.cli import cli

    found = get_completion_class(choose(shell, SHELLS, "The shell"))
    if found is None:
        raise click.UsageError(f"{shell} has no completion.")
    write(found(cli, {}, "llmcalc", "_LLMCALC_COMPLETE").source() + "\n", None)
    return 0
