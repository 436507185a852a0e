"""Several processes as one run: they connect, wait for each other and exchange decisions."""

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
# How long a process waits at a barrier. If a process dies, the others end much sooner, so this only
# has to be longer than preparing a dataset may take.
_BARRIER_HOURS = 48

_barriers = itertools.count()  # for unique names; every process counts alike


def start(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Connects this process to the others of its run; call it before anything uses a device.

    If all arguments are None, JAX detects them on a TPU pod and in jobs of SLURM or Open MPI.

    Args:
        coordinator: "host:port" of the first process, with a free port; the same in all processes.
        num_processes: the number of processes.
        process_id: the number of this process, from 0.

    Raises:
        ConfigError: if only some arguments are given, if they cannot be right, if there is nothing
            to detect, or if not all processes have connected after `PATIENCE` seconds.
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
    # JAX's own handler of SIGTERM would take the signal away from everything but training, which
    # has a handler of its own.
    jax.config.update("jax_enable_preemption_service", False)
    _meet(coordinator, num_processes, process_id)
    # The processes exchange their devices now, while none of them is busy: JAX waits for two
    # minutes at most.
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
            f"--process_id={process_id} is out of range for --num_processes={num_processes}: "
            "number the processes from 0 to num_processes - 1."
        )
    if process_id == 0:  # JAX would crash
        try:
            socket.create_server(("", int(port))).close()
        except OSError as error:
            raise ConfigError(
                f"--coordinator={coordinator}: port {port} cannot be used here "
                f"({error.strerror}): use another one in all processes."
            ) from error


def _meet(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    # JAX aborts the interpreter when its own timeout ends. So that timeout is longer than ours, and
    # runs in a thread that can be left behind.
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
            f"the processes of this run have not connected {where} within {PATIENCE} s: start "
            "all of them, each with its own --process_id, where they can reach the first one."
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
    """Returns whether this is the first process, which alone writes files and prints."""
    return jax.process_index() == 0


def wait(name: str) -> None:
    """Returns once every process has called this, however late.

    Every process must make the same calls of this module in the same order.

    Args:
        name: what is waited for; appears in error messages.
    """
    if jax.process_count() > 1:
        key = f"flowvid/{next(_barriers)}/{name}"
        ocp.multihost.get_barrier_sync_fn()(key=key, timeout_ms=_BARRIER_HOURS * 3_600_000)


def broadcast(value: int) -> int:
    """Returns the value of the first process; every process must call this."""
    if jax.process_count() == 1:
        return value
    wait("broadcast")  # has a longer timeout than what follows
    return int(multihost_utils.broadcast_one_to_all(np.int32(value), is_source=is_first()))


def any_process(value: int) -> int:
    """Returns the largest value of all processes; every process must call this.

    It waits for all processes; `devices.dispatch_max` does not.
    """
    if jax.process_count() == 1:
        return value
    wait("any_process")
    return int(np.max(multihost_utils.process_allgather(np.int32(value))))


@contextlib.contextmanager
def first_goes_first(name: str) -> Iterator[None]:
    """Runs the body in the first process, then in all others, which find its work done.

    If the body raises in one process, the others do not wait for it.

    Args:
        name: what the body does, for error messages: "loading the datasets".

    Raises:
        UserError: if the body has failed in another process, and not in this one.
    """
    if jax.process_count() == 1:
        yield
        return
    if not is_first() and any_process(0):
        raise UserError(f"{name} failed in the first process: see its error message.")
    failed = 1
    try:
        yield
        failed = 0
    finally:
        failed_elsewhere = any_process(failed) > failed
    if is_first():
        failed_elsewhere = any_process(0) > 0
    if failed_elsewhere:
        raise UserError(f"{name} failed in another process: see its error message.")
