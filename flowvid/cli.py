"""What the entry points share: start-up, grouped help, and errors as one line.

Nothing here imports JAX before the flags are parsed, so that `--help` and a misspelt flag answer at
once. Entry points import what needs JAX inside their `main` for the same reason.
"""

import contextlib
import gc
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags, logging

from flowvid import paths
from flowvid.errors import ConfigError, Stopped, UserError

# A step's memory is taken from the system anew each time. In pages of 4 KB, that and the walks
# through it take about a tenth of the paper preset's step on CPU.
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}

# Packages that experiments/ import where they are needed, and the extra that has them.
_EXTRAS = {"dm_pix": "experiments", "jinja2": "experiments", "markupsafe": "experiments"}

# absl's help of a choice, "<a|b>: ", and our group, "Flow (glow): ", before what a flag does.
_HELP = re.compile(r"(<.*?>: )?(?:([A-Z]\w*(?: \(\w+\))?): )?(.*)", re.DOTALL)


def enable_compilation_cache() -> None:
    """Keeps compiled programs in the user's cache folder, so that later runs start at once.

    JAX's own variable JAX_COMPILATION_CACHE_DIR takes precedence; empty, it turns the cache off.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        import jax

        folder = paths.cache_folder() / "flowvid" / "xla"
        jax.config.update("jax_compilation_cache_dir", str(folder))


def use_huge_pages() -> None:
    """Restarts the program with an allocator that asks for huge pages.

    The C library reads GLIBC_TUNABLES once, at the start. A value that is already set takes
    precedence; empty, it turns this off. Other systems than Linux are left alone.
    """
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.environ.update(HUGE_PAGES)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def collect_less_often() -> None:
    """Makes garbage collection rarer: tracing creates millions of objects that stay alive."""
    gc.set_threshold(100_000, 50, 1000)


def run(main: Callable[[], None], huge_pages: bool = False) -> None:
    """Runs an entry point: parses flags, and turns an error that a user can fix into one line.

    Exits with code 1 after such an error, and with 128 + n when signal n has stopped a run.
    Anything else is a bug and keeps its traceback.

    Args:
        main: the entry point's work, which may import JAX.
        huge_pages: whether to restart with huge pages (`use_huge_pages`) once the flags are right.
    """

    def guarded(argv: Sequence[str]) -> None:
        try:
            if len(argv) > 1:
                raise ConfigError(
                    f"unexpected argument {argv[1]!r}: options have the form --name=value; "
                    "see --help."
                )
            if huge_pages:
                use_huge_pages()
            enable_compilation_cache()
            main()
        except Stopped as error:
            print(error, file=sys.stderr)
            sys.exit(128 + error.number)  # as shells report a process that a signal ended
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
        except ModuleNotFoundError as error:
            if error.name not in _EXTRAS:
                raise
            advice = f"run `pip install 'flowvid[{_EXTRAS[error.name]}]'`."
            print(f"error: this needs {error.name}: {advice}", file=sys.stderr)
            sys.exit(1)
        except OSError as error:  # a file where a folder should be, no permission, a full disk
            where = f"{error.filename}: " if error.filename else ""
            print(f"error: {where}{error.strerror or error}", file=sys.stderr)
            sys.exit(1)

    collect_less_often()
    # XLA's C++ code would print warnings into progress bars, such as that a compilation is slow.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    _open_standard_streams()
    # Before absl's handler takes the stream that it writes to.
    with (
        contextlib.redirect_stdout(_lasting(sys.stdout)),
        contextlib.redirect_stderr(_lasting(sys.stderr)),
    ):
        logging.use_absl_handler()
        logging.set_verbosity(logging.WARNING)  # Orbax logs much at lower levels
        app.run(guarded, flags_parser=_parse)


class _Lasting(io.RawIOBase):
    """Writes to a stream until that fails, then to nowhere."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def writable(self) -> bool:
        """Returns True, as files open for writing do."""
        return True

    def write(self, data: Any) -> int:
        """Writes bytes, and returns their number."""
        if self.stream is not None:
            try:
                self.stream.write(data)
                self.stream.flush()
            except OSError:  # a closed pipe, or a full disk
                # What could not be written is still in the buffer, and would fail again at exit.
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.stream.fileno())
                os.close(nowhere)
                self.stream = None
        return len(data)


def _lasting(stream: Any) -> Any:
    """Returns a stream that never ends a program: neither closed, nor full, nor by its encoding.

    A run of days must not end because its output is piped to `head`, or because a label has letters
    that the terminal does not know; these are escaped.
    """
    if stream is not None and not hasattr(stream, "buffer"):  # replaced, as in notebooks
        return stream
    raw: Any = _Lasting(None if stream is None else stream.buffer)
    encoding = "utf-8" if stream is None else stream.encoding
    return io.TextIOWrapper(
        raw, encoding, "backslashreplace", line_buffering=True, write_through=True
    )


def _open_standard_streams() -> None:
    """Opens standard streams that the shell closed (`2>&-`), to nowhere.

    Otherwise the next file that is opened takes a closed stream's number, and XLA's messages would
    be written into that file.
    """
    number = 0
    while number <= 2:
        number = os.open(os.devnull, os.O_RDWR)
    os.close(number)


def _parse(argv: Sequence[str]) -> list[str]:
    """Parses flags as absl does, but with the entry point's help in groups."""
    if {"--help", "-help", "-h", "--h"} & set(argv[1:]):
        print(grouped_help())
        sys.exit(0)
    if {"--helpfull", "-helpfull"} & set(argv[1:]):  # absl reports it as an error
        app.usage(writeto_stdout=True)
        sys.exit(0)
    parsed: list[str] = app.parse_flags_with_usage(list(argv))
    return parsed


def grouped_help() -> str:
    """Returns the main module's description and its flags, under the headings in their help."""
    groups: dict[str, list[str]] = {}
    for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0]):
        match = _HELP.fullmatch(flag.help)
        assert match is not None  # it matches any text
        choices, group, text = match.groups(default="")
        if flag.default is not None:
            text += f" [{(flag.default_as_str or '').strip(chr(39))}]"  # absl quotes it
        name = f"[no]{flag.name}" if flag.boolean else flag.name
        wrapped = flags.text_wrap(choices + text, indent="      ", firstline_indent="      ")
        groups.setdefault(group or "Options", []).append(f"  --{name}:\n{wrapped}")
    # Help of flags without a group, such as those of `evaluate`, stands under "Options".
    description = (sys.modules["__main__"].__doc__ or "").strip()
    parts = [f"{group}\n" + "\n".join(lines) for group, lines in groups.items()]
    return "\n\n".join([description, *parts, "--helpfull lists the flags of libraries, too."])
