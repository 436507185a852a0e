"""Several processes as one run: how they find each other, wait for each other, and agree."""

import contextlib
import itertools
import socket
import threading
from collections.abc import Iterator

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from flowvid.errors import ConfigError, UserError

PATIENCE = 300  # seconds within which all processes of a run must have been started
# How long a process waits at a barrier. A process that dies ends the others much sooner, so this
# only has to be longer than preparing a data set may take.
_BARRIER_HOURS = 48

_barriers = itertools.count()  # they need names of their own; every process counts alike


def start(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Joins this process to the others of its run; call it before anything asks for a device.

    Args:
        coordinator: "host:port" of the first process, at a free port; the same for all of them.
        num_processes: how many there are.
        process_id: this one's number, from 0.

    With all three None, JAX finds them out: on a TPU pod, and in jobs of SLURM or Open MPI.

    Raises:
        ConfigError: when some are given and others not, when they cannot be right, when there is
            nothing to find, or when not all processes have met after `PATIENCE` seconds.
    """
    given = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    missing = [f"--{name}" for name, value in given.items() if value is None]
    if coordinator is not None and num_processes is not None and process_id is not None:
        _check(coordinator, num_processes, process_id)
    elif len(missing) < len(given):
        raise ConfigError(
            f"{' and '.join(missing)} must be given, too: use --coordinator, --num_processes and "
            "--process_id together, or none of them on a TPU pod, SLURM or Open MPI."
        )
    # JAX's own note of SIGTERM would take the signal away from everything but training, which
    # notes it itself.
    jax.config.update("jax_enable_preemption_service", False)
    _meet(coordinator, num_processes, process_id)
    # The processes tell each other of their devices now, while none of them is busy: JAX waits for
    # two minutes at most.
    jax.devices()


def _check(coordinator: str, num_processes: int, process_id: int) -> None:
    port = coordinator.rpartition(":")[2]
    if not (coordinator.rpartition(":")[0] and port.isdecimal() and 0 < int(port) < 2**16):
        raise ConfigError(
            f"--coordinator={coordinator} must be host:port, such as 10.0.0.1:8476: the address of "
            "the process with --process_id=0 and a port that is free there."
        )
    if not 0 <= process_id < num_processes:
        raise ConfigError(
            f"--process_id={process_id} of --num_processes={num_processes} is none: number the "
            "processes from 0 to num_processes - 1."
        )
    if process_id == 0:  # JAX would crash
        try:
            socket.create_server(("", int(port))).close()
        except OSError as error:
            raise ConfigError(
                f"--coordinator={coordinator}: port {port} cannot be used here "
                f"({error.strerror}): give all processes another one."
            ) from error


def _meet(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    # JAX aborts the interpreter when its own patience ends. So it is given more than ours, in a
    # thread that can be left behind.
    failed: list[Exception] = []

    def connect() -> None:
        try:
            jax.distributed.initialize(
                coordinator, num_processes, process_id, initialization_timeout=2 * PATIENCE + 60
            )
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if thread.is_alive():
        where = (
            f"at --coordinator={coordinator}" if coordinator else "as the job's environment says"
        )
        raise ConfigError(
            f"the processes of this run have not met {where} within {PATIENCE} s: start all of "
            "them, each with its own --process_id, where the first one's address can be reached."
        )
    if failed and coordinator is None:
        raise ConfigError(
            "--distributed finds no TPU pod and no job of SLURM or Open MPI "
            f"({' '.join(str(failed[0]).split())}): start the processes with srun or mpirun, or "
            "give each --coordinator=host:port, --num_processes and --process_id."
        ) from failed[0]
    if failed:
        raise failed[0]


def is_first() -> bool:
    """Whether this is the process that alone writes files and prints."""
    return jax.process_index() == 0


def wait(name: str) -> None:
    """Returns once every process has called this, however late; `name` is for error messages.

    Every process must come by the same calls of this module in the same order.
    """
    if jax.process_count() > 1:
        key = f"flowvid/{next(_barriers)}/{name}"
        ocp.multihost.get_barrier_sync_fn()(key=key, timeout_ms=_BARRIER_HOURS * 3_600_000)


def broadcast(value: int) -> int:
    """The first process's value; every process must call this."""
    if jax.process_count() == 1:
        return value
    wait("broadcast")  # which is more patient than what follows
    return int(multihost_utils.broadcast_one_to_all(np.int32(value), is_source=is_first()))


def any_process(value: int) -> int:
    """The largest of the processes' values, so 1 if it is 1 in any; every process must call this.

    It waits for all of them; `steps.dispatch_max` does not.
    """
    if jax.process_count() == 1:
        return value
    wait("any_process")
    return int(np.max(multihost_utils.process_allgather(np.int32(value))))


@contextlib.contextmanager
def first_goes_first(name: str) -> Iterator[None]:
    """The first process does the body, then all others do it: what is prepared once for all.

    If the body raises anywhere, the others are not left waiting.

    Args:
        name: what the body does: "opening the data set".

    Raises:
        UserError: when it has failed in another process, and not in this one.
    """
    if jax.process_count() == 1:
        yield
        return
    if not is_first() and any_process(0):
        raise UserError(f"{name} has failed in the first process: see what that one says.")
    failed = 1
    try:
        yield
        failed = 0
    finally:
        failed_elsewhere = any_process(failed) > failed
    if is_first():
        failed_elsewhere = any_process(0) > 0
    if failed_elsewhere:
        raise UserError(f"{name} has failed in another process: see what that one says.")
