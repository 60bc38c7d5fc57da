"""`wallet-admin completion SHELL`: a script that completes verbs and flags in a shell."""

import click
from click.shell_completion import get_completion_class

PROGRAM = "wallet-admin"
_VARIABLE = "_WALLET_ADMIN_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a SHELL.

    Verbs and flags are completed from then on, with their summary where the shell shows one (bash 4.4 or newer).

    \b
    EXAMPLES
      eval "$(wallet-admin completion bash)"            # this session
      wallet-admin completion bash > /etc/bash_completion.d/wallet-admin
      wallet-admin completion zsh > "${fpath[1]}/_wallet-admin"
      wallet-admin completion fish > ~/.config/fish/completions/wallet-admin.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None  # `click.Choice` allows only shells that click knows
    click.echo(kind(ctx.find_root().command, {}, PROGRAM, _VARIABLE).source())
