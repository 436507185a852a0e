"""Code that the entry points share: start-up, and one-line error messages."""

import gc
import os
import pathlib
import sys
from collections.abc import Callable, Sequence

import jax
from absl import app, logging

from flowvid.errors import ConfigError, Stopped, UserError


def enable_compilation_cache() -> None:
    """Keeps compiled programs in the user's cache folder, so that later runs start at once.

    JAX's own variable JAX_COMPILATION_CACHE_DIR takes precedence; an empty one disables the cache.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        root = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        jax.config.update("jax_compilation_cache_dir", str(root / "flowvid" / "xla"))


# Each step allocates its memory anew. With pages of 4 KB, allocating and accessing it takes about a
# tenth of a step of the paper preset on CPU.
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


def use_huge_pages() -> None:
    """Restarts the program with huge pages for allocations, which glibc reads only at the start.

    GLIBC_TUNABLES takes precedence; an empty one disables this. Does nothing on other systems.
    """
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.environ.update(HUGE_PAGES)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def collect_less_often() -> None:
    """Runs the garbage collector less often: it takes a tenth of the time of tracing a model."""
    gc.set_threshold(100_000, 50, 1000)


def run(main: Callable[[], None]) -> None:
    """Runs an entry point: parses flags, and prints an error that a user can fix as one line.

    Exits with code 1 after such an error, and with 128 + n after signal n stopped a run. Any other
    error is a bug and keeps its traceback.
    """

    def guarded(argv: Sequence[str]) -> None:
        try:
            if len(argv) > 1:
                raise ConfigError(
                    f"unexpected argument {argv[1]!r}: options have the form --name=value; "
                    "see --help."
                )
            enable_compilation_cache()
            main()
        except Stopped as error:
            print(error, file=sys.stderr)
            sys.exit(128 + error.number)  # as shells report a process that a signal ended
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
        except OSError as error:  # a file where a folder should be, no permission, a full disk
            where = f"{error.filename}: " if error.filename else ""
            print(f"error: {where}{error.strerror or error}", file=sys.stderr)
            sys.exit(1)

    collect_less_often()
    logging.use_absl_handler()
    logging.set_verbosity(logging.WARNING)  # Orbax logs much at INFO
    app.run(guarded)
