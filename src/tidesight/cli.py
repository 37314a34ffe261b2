"""The `tidesight` command: a table of sub-commands, each loaded only when it is called.

`serve` is parsed by click alone: an instance that scales from zero would pay Typer's imports on every start.
"""

import sys
from importlib import import_module
from typing import Any

from tidesight import __version__
from tidesight.errors import ConfigError, TidesightError

# name: (module with a function, or a Typer of more commands, of that name, "_" for "-"; one line of help)
COMMANDS = {
    "detect": ("tidesight.commands.detect", "Find objects in files, folders, globs or URLs."),
    "serve": ("tidesight.commands.serve", "Serve a detector over HTTP."),
    "video": ("tidesight.commands.video", "Find objects in videos with a fleet."),
    "cameras": ("tidesight.commands.cameras", "Watch cameras with a fleet."),
    "doctor": ("tidesight.commands.doctor", "Check this machine and a model."),
    "models": ("tidesight.commands.models", "Show what is embedded, or fetch a model by URL and hash."),
    "demo": ("tidesight.commands.demo", "Serve, detect real photographs; then two published studies, in small."),
    "train": ("tidesight.commands.train", "Fine-tune the detector on your pictures."),
    "evaluate": ("tidesight.commands.evaluate", "Measure AP on labelled pictures."),
    "tune": ("tidesight.commands.tune", "Find the fastest engine, precision, threads and input for this machine."),
    "free-size": ("tidesight.commands.free_size", "Open a model's input size, so that it is cut to the picture."),
    "quantize": ("tidesight.commands.quantize", "Make an INT8 model, if its AP holds."),
    "up": ("tidesight.commands.up", "Run an autoscaled fleet on this machine, under a platform's own rules."),
    "status": ("tidesight.commands.status", "Show a running fleet."),
    "scale": ("tidesight.commands.scale", "Set the count of a running fleet's instances."),
    "replace": ("tidesight.commands.replace", "Replace every instance of a running fleet, one after another."),
    "load": ("tidesight.commands.load", "Send a load to a URL: a rate, users, a trace or a scenario."),
    "report": ("tidesight.commands.report", "Compare recorded runs: one page with charts, one table."),
    "explain-scaling": ("tidesight.commands.explain_scaling", "Replay observations through a scaling policy."),
    "platforms": ("tidesight.commands.platforms", "Every number of a platform, with its source and date."),
    "deploy": ("tidesight.commands.deploy", "Manifests for GKE, Cloud Run, App Engine and more; and a look at them."),
    "observe": ("tidesight.commands.observe", "Start Prometheus over instances that run."),
    "bench": ("tidesight.commands.bench", "Run a scenario against platforms or URLs, and report."),
}


def main() -> None:
    """Run the command line; errors raised on purpose become one line and an exit code (2: configuration, else 1)."""
    try:
        if sys.argv[1:2] == ["serve"]:
            from tidesight.commands.serve import serve

            serve.main(sys.argv[2:], prog_name="tidesight serve")
        else:
            _typer_app()()
    except TidesightError as error:
        print(f"tidesight: {error.detail}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigError) else 1)


def _typer_app() -> Any:
    import typer
    from typer.core import TyperCommand, TyperGroup

    class LazyGroup(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            return list(COMMANDS)

        def get_command(self, ctx: Any, name: str) -> Any:
            if name not in COMMANDS:
                return super().get_command(ctx, name)
            module, help_line = COMMANDS[name]
            if "--help" in sys.argv[1:2]:  # the overview needs no more than the line above
                return TyperCommand(name, help=help_line)
            found = getattr(import_module(module), name.replace("-", "_"))
            if isinstance(found, typer.Typer):  # a command with commands of its own
                return typer.main.get_group(found)
            single = typer.Typer(add_completion=False)
            single.command(name, short_help=help_line)(found)
            return typer.main.get_command(single)

    app = typer.Typer(cls=LazyGroup, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

    @app.callback(invoke_without_command=True)
    def root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
        """Serve a YOLO detector, autoscale it, and measure what each choice costs."""
        if version:
            print(__version__)
            raise typer.Exit

    return app
