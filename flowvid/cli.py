"""What the entry points share: start-up, and errors as one line instead of a traceback."""

import gc
import os
import pathlib
import sys
from collections.abc import Callable, Sequence

from absl import app, logging

from flowvid.errors import ConfigError, Stopped, UserError


def enable_compilation_cache() -> None:
    """Keeps compiled steps in the user's cache folder, so that later runs start at once.

    JAX's own variable JAX_COMPILATION_CACHE_DIR, where set, is obeyed (empty turns it off).
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        import jax  # here, so that --help does not load it

        root = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        jax.config.update("jax_compilation_cache_dir", str(root / "flowvid" / "xla"))


# A step's memory is taken from the system anew each time; in pages of 4 KB that and the walks
# through it take about a tenth of the paper preset's step on CPU.
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


def use_huge_pages() -> None:
    """Starts the program again with an allocator that asks for huge pages, which glibc reads once.

    GLIBC_TUNABLES, where set, is obeyed (empty turns this off); other systems are left alone.
    """
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.environ.update(HUGE_PAGES)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def collect_less_often() -> None:
    """Tracing makes millions of objects that live: looking for garbage takes a tenth of a start."""
    gc.set_threshold(100_000, 50, 1000)


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

    collect_less_often()
    logging.use_absl_handler()
    logging.set_verbosity(logging.WARNING)  # Orbax tells much
    app.run(guarded)
