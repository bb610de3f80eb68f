"""The commands `python -m data release build|verify|diff|export` and `python -m data serve`."""

from __future__ import annotations

import ipaddress
import json
import signal
import socket
import sys
import tempfile
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from core.errors import UserError
from core.screen import print_table
from data.release.changes import Changes, diff_releases
from data.release.export import TableFormat, export_release, text_to_category
from data.release.manifest import Manifest, printable

release_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@release_app.callback()
def release() -> None:
    """Versions of the data that people can trust: build them, prove them, compare them, read them as tables.

    \b
    Example:
        python -m data release build --version 1.0.0 --input records.jsonl --out releases/1.0.0
            [--name --previous --date --creator --url --licence --source]
        python -m data release verify releases/1.0.0 [--sha256 --json]
        python -m data release diff releases/1.0.0 releases/1.1.0 [--json --ids]
        python -m data release export releases/1.0.0 --out records.csv [--format --category]
    """


Folder = Annotated[Path, typer.Argument(metavar="RELEASE", help="Folder of a release.")]


@release_app.command()
def build(
    version: Annotated[str, typer.Option(help="Version by semver.org 2.0.0, such as 1.4.0.")],
    inputs: Annotated[list[Path], typer.Option("--input", metavar="FILE...", help="Trajectory files (JSON Lines).")],
    out: Annotated[Path, typer.Option(help="Folder of the release; it must not be there yet.")],
    more: Annotated[list[Path] | None, typer.Argument(metavar="FILE", hidden=True)] = None,
    name: Annotated[str | None, typer.Option(help="Name of the data set; that of the versions beside OUT.")] = None,
    previous: Annotated[
        Path | None, typer.Option(help="The version before; without it, the newest older one beside OUT.")
    ] = None,
    day: Annotated[
        str | None,
        typer.Option("--date", help="Day of publication, 2026-11-21; without it, that of the newest record."),
    ] = None,
    creator: Annotated[str | None, typer.Option(help="Who publishes it, for the citation.")] = None,
    url: Annotated[str | None, typer.Option(help="Page of the data set, for the citation.")] = None,
    licence: Annotated[str | None, typer.Option(help="SPDX licence of records that state none.")] = None,
    source: Annotated[str | None, typer.Option(help="Source of records that state none.")] = None,
) -> None:
    """Build a release from checked, redacted records. The same records make the same bytes.

    Exit codes: 0 built, 2 refused (a bad line, a secret, a licence, or a version that semver does not allow).

    \b
    Example:
        python -m data release build --version 1.1.0 --input a.jsonl b.jsonl --out releases/1.1.0
    """
    from data.release.build import Stated, build_release  # noqa: PLC0415 - keeps other commands quick

    stated = Stated(licence, source)
    built = build_release(
        [*inputs, *(more or [])],
        out,
        version=version,
        name=name,
        previous=previous,
        day=None if day is None else _day(day),
        creator=creator,
        url=url,
        stated=stated,
    )
    manifest = built.manifest
    rows = [(file.path, file.rows, file.bytes) for file in manifest.files if file.rows is not None]
    print_table(("file", "records", "bytes"), rows)
    for what, count in stated.used.items():
        if count:
            typer.echo(f"{count} records stated no {what} and got {getattr(stated, what)!r}")
    if built.changes is None:
        typer.echo(f"no version of {manifest.name} before this one was found")
    else:
        sentences = "; ".join(built.changes.sentences()) or "no record changed"
        typer.echo(f"since {manifest.previous and manifest.previous.version} ({built.previous}): {sentences}")
    typer.echo(f"wrote {out}: {manifest.name} {manifest.version}, {manifest.statistics['records']} records")
    _print_hash(manifest)


def _print_hash(manifest: Manifest) -> None:
    typer.echo(f"release_sha256 {manifest.release_sha256}")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UserError(f"--date {text!r}: expected a day such as 2026-11-21") from None


@release_app.command()
def verify(
    path: Annotated[Path, typer.Argument(metavar="RELEASE", help="Folder or ZIP of a release.")],
    sha256: Annotated[str | None, typer.Option(help="The release_sha256 that the publisher announced.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write the result as one JSON object.")] = False,
) -> None:
    """Prove what you hold: every file that is changed, missing or too many is named.

    Exit codes: 0 all is as released, 1 it is not, 2 there is no release at RELEASE.

    \b
    Example:
        python -m data release verify releases/1.0.0
        python -m data release verify tool-trajectories-1.0.0.zip --sha256 NUMBER
    """
    from data.release.verify import verify_release  # noqa: PLC0415 - keeps other commands quick

    found = verify_release(path, release_sha256=sha256)
    manifest = found.manifest
    if as_json:
        result = {
            "release": None if manifest is None else f"{manifest.name} {manifest.version}",
            "release_sha256": None if manifest is None else manifest.release_sha256,
            "announced": sha256,
            "faults": [asdict(fault) for fault in found.faults],
        }
        typer.echo(json.dumps(result, ensure_ascii=False, indent=2))
    else:
        for fault in found.faults:
            typer.echo(str(fault))
        if not found.faults and manifest is not None:
            typer.echo(f"{manifest.name} {manifest.version}: {len(manifest.files)} files are as released")
            _print_hash(manifest)
            if sha256 is None:
                typer.echo(
                    "the files fit their manifest; give the announced number with --sha256 to prove the manifest"
                )
    if found.faults:
        raise typer.Exit(1)


@release_app.command()
def diff(
    before: Annotated[Path, typer.Argument(metavar="A", help="Folder of a release.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="Folder of a later one.")],
    ids: Annotated[bool, typer.Option("--ids", help="List all ids, not only counts.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write everything as one JSON object.")] = False,
) -> None:
    """Say what changed from A to B: records, fields, licences and statistics.

    \b
    Example:
        python -m data release diff releases/1.0.0 releases/1.1.0
    """
    with tempfile.TemporaryDirectory() as workplace:
        changes = diff_releases(before, after, Path(workplace))
    if as_json:
        result = {"level": changes.level.name.lower(), **asdict(changes)}
        typer.echo(json.dumps(result, ensure_ascii=False, indent=2))
        return
    _print_changes(changes, ids=ids)


def _print_changes(changes: Changes, *, ids: bool) -> None:
    rows: list[tuple[str, object, str]] = [
        ("records added", len(changes.added), ""),
        ("records removed", len(changes.removed), ""),
        ("records changed", len(changes.changed), ""),
        ("records under another licence", len(changes.relicensed), ""),
        ("fields added", len(changes.fields_added), ", ".join(changes.fields_added)),
        ("fields removed", len(changes.fields_removed), ", ".join(changes.fields_removed)),
        ("fields with a new type", len(changes.fields_retyped), ", ".join(changes.fields_retyped)),
        ("categories added", len(changes.files_added), ", ".join(changes.files_added)),
        ("categories removed", len(changes.files_removed), ", ".join(changes.files_removed)),
        ("licences added", len(changes.licences_added), ", ".join(changes.licences_added)),
        ("licences removed", len(changes.licences_removed), ", ".join(changes.licences_removed)),
    ]
    print_table(("what", "count", "which"), rows)
    if ids:
        listed = [("added", printable(key), "") for key in changes.added]
        listed += [("removed", printable(key), "") for key in changes.removed]
        listed += [("changed", printable(key), ", ".join(names)) for key, names in changes.changed.items()]
        print_table(("", "id", "fields"), listed)
    if changes.statistics:
        numbers = [(printable(name), before, after) for name, (before, after) in changes.statistics.items()]
        print_table(("statistic", "before", "after"), numbers)
    typer.echo(f"by semver this is a {changes.level.name.lower()} change")


@release_app.command()
def export(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="File of the table.")],
    table: Annotated[TableFormat, typer.Option("--format", help="csv or parquet.")] = TableFormat.CSV,
    category: Annotated[str | None, typer.Option(help="Only this category, in English or Korean.")] = None,
) -> None:
    """Write the records as one table; nested fields become JSON text. In CSV no cell can be run as a formula.

    \b
    Example:
        python -m data release export releases/1.0.0 --format csv --out records.csv
    """
    wanted = None if category is None else text_to_category(category)
    count = export_release(folder, out, table=table, category=wanted)
    typer.echo(f"wrote {out}: {count} records")


def serve_command(
    folder: Folder,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine need another one.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    leaderboard: Annotated[
        Path | None, typer.Option(help="leaderboard.json of `python -m benchmark leaderboard`.")
    ] = None,
) -> None:
    """Serve the records of a release: GET /datasets, /datasets/CATEGORY and /leaderboard, described at /docs.

    It is for reading only and asks nobody who they are. Needs the extra: pip install -e '.[serve]'.

    \b
    Example:
        python -m data serve releases/1.0.0 --leaderboard results/leaderboard/leaderboard.json
    """
    try:
        import uvicorn  # noqa: PLC0415 - an extra

        from data.release.api import ApiLimits, create_app, read_leaderboard  # noqa: PLC0415
        from data.release.index import RecordIndex  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is missing: pip install -e '.[serve]'") from None
    if leaderboard is not None:
        read_leaderboard(leaderboard)
    limits = ApiLimits()
    # Without this, a SIGTERM would leave the index behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory() as workplace, _listen(host, port, limits.connections) as listening:
        index = RecordIndex(folder, Path(workplace) / "index.sqlite")
        app = create_app(index, leaderboard=leaderboard, limits=limits)
        address = listening.getsockname()
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        if not ipaddress.ip_address(address[0]).is_loopback:
            typer.echo(f"warning: everybody who can reach {shown} can read this; there is no log-in", err=True)
        typer.echo(f"serving {index.manifest.name} {index.manifest.version} at http://{shown}:{address[1]}/docs")
        config = uvicorn.Config(app, log_level="warning", limit_concurrency=limits.connections, server_header=False)
        try:
            uvicorn.Server(config).run(sockets=[listening])
        except KeyboardInterrupt:
            typer.echo("stopped")
        finally:
            index.close()


def _listen(host: str, port: int, backlog: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=backlog)
    except OSError as error:
        raise UserError(f"cannot listen on {host} port {port}: {error.strerror}") from None
