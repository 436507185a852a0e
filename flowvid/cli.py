"""What the entry points share: start-up, and errors as one line instead of a traceback."""

import os
import pathlib
import sys
from collections.abc import Callable, Sequence

import jax
from absl import app, logging

from flowvid.errors import ConfigError, Stopped, UserError


def enable_compilation_cache() -> None:
    """Keeps compiled steps in the user's cache folder, so that later runs start at once.

    JAX's own variable JAX_COMPILATION_CACHE_DIR, where set, is obeyed (empty turns it off).
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        root = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        jax.config.update("jax_compilation_cache_dir", str(root / "flowvid" / "xla"))


def run(main: Callable[[], None]) -> None:
    """Runs an entry point: parses flags, and turns an error that a user can mend into one line.

    Exits with code 1 after such an error, and with 128 + n when signal n has stopped a run;
    anything else is a bug and keeps its traceback.
    """

    def guarded(argv: Sequence[str]) -> None:
        try:
            if len(argv) > 1:
                raise ConfigError(
                    f"unexpected argument {argv[1]!r}: every option is --name=value; see --help."
                )
            enable_compilation_cache()
            main()
        except Stopped as error:
            print(error, file=sys.stderr)
            sys.exit(128 + error.number)  # as a shell reports a process that the signal ended
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
        except OSError as error:  # a file where a folder should be, no permission, a full disk
            where = f"{error.filename}: " if error.filename else ""
            print(f"error: {where}{error.strerror or error}", file=sys.stderr)
            sys.exit(1)

    logging.use_absl_handler()
    logging.set_verbosity(logging.WARNING)  # Orbax tells much
    app.run(guarded)
