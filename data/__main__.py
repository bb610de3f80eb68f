"""Commands over records and prepared sets: `python -m data COMMAND --help`.

None of them needs torch. Exit codes, for all commands:

    0  done
    1  `validate` found bad lines, `redact --check` something to redact, `score --fail-under` a low score, `plan --check` a gap
    2  the input or the command line is wrong; one message on standard error says what to change
"""

from __future__ import annotations

import typer

from core.command_line import run_command
from data.commands.contribution import plan_command, redact_command, score_command, validate_command
from data.commands.curate import curate_app
from data.commands.look import look_command
from data.commands.release import release_app, serve_command
from data.commands.rendering import show_command, templates_command
from data.commands.sets import (
    adapters_command,
    build_command,
    convert_command,
    export_command,
    pairs_command,
    schema_command,
)

app = typer.Typer(
    help="Records in, prepared sets out. Exit codes: 0 done, 1 bad lines were found, 2 wrong input or command line.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


app.command("schema")(schema_command)
app.command("build")(build_command)
app.command("pairs")(pairs_command)
app.command("adapters")(adapters_command)
app.command("convert")(convert_command)
app.command("look")(look_command)
app.command("validate")(validate_command)
app.command("redact")(redact_command)
app.command("score")(score_command)
app.command("plan")(plan_command)
app.command("show")(show_command)
app.command("templates")(templates_command)
app.add_typer(release_app, name="release")
app.command("serve")(serve_command)
app.add_typer(curate_app, name="curate")
app.command("export")(export_command)

if __name__ == "__main__":
    run_command(app, name="python -m data")
