"""The command that starts a new application: a small app and its test, to change from there."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from bursar.cli.common.options import JsonOption
from bursar.state.errors import ConfigurationError

commands = typer.Typer()

STARTER = ("app.py", "test_app.py")
FolderArgument = Annotated[
    Path, typer.Argument(metavar="[FOLDER]", help="Where to write them; made if it is not there.")
]


@commands.command()
def init(folder: FolderArgument = Path(), json: JsonOption = False) -> None:
    """Write a small app and its test, which run without a key, into a folder; nothing in it is overwritten."""
    texts = {folder / name: (files("bursar.cli") / "starter" / name).read_text(encoding="utf-8") for name in STARTER}
    taken = [str(path) for path in texts if path.exists()]
    if taken:
        raise ConfigurationError(f"{' and '.join(taken)} would be overwritten; name another folder: bursar init FOLDER")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            with path.open("x", encoding="utf-8") as new:  # race: another program may have made the file since
                new.write(text)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ConfigurationError(
            f"cannot write {error.filename or folder}: {why}; name a folder that you may write: bursar init FOLDER"
        ) from error
    if json:
        from bursar.cli.common import render as show

        typer.echo(show.as_json({"written": [str(path) for path in texts]}))
        return
    into = "" if folder == Path() else f"cd {folder} && "
    typer.echo(f"Wrote {' and '.join(map(str, texts))}. Try them; neither needs a key:")
    typer.echo(f'  {into}python app.py "Where did my money go?"')
    typer.echo(f"  {into}python -m pytest        # after: pip install pytest")
    typer.echo("Then put your own model, handler and fallback in app.py.")
