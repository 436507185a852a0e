"""Strict tests: shapes checked at run time, two virtual devices, and what several files share."""

import gc
import os
import tempfile
from pathlib import Path

# Before JAX is imported anywhere: with two devices, `pmap` is real. Nearly all of the tests' time
# is compilation, which is about twice as fast without XLA's expensive passes, and which is kept for
# the next run of the tests.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_cpu_use_fusion_emitters=false"  # whose code takes twice as long to compile
    # One part: each more is compiled with a copy of the module's head, on cores that are busy.
    + " --xla_cpu_parallel_codegen_split_count=1"
    + " --xla_force_host_platform_device_count=2"
)
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", f"{tempfile.gettempdir()}/flowvid_tests_xla_{os.getuid()}"
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"  # a missing axis is an error, never broadcast
os.environ.setdefault("GLIBC_TUNABLES", "")  # training does not start itself again for huge pages

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import install_import_hook

# Before flowvid is imported: a wrong shape fails by name in every test. An int passes for a float.
BEARTYPE = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
install_import_hook(["flowvid", "data_builders"], BEARTYPE)

from flowvid import cli  # noqa: E402  (after the hook)
from flowvid.evaluation import scoring  # noqa: E402  (after the hook)
from flowvid.training.train_state import is_constant  # noqa: E402  (after the hook)

cli.collect_less_often()

# The same few examples in every run. Compilation makes single examples slow.
hypothesis.settings.register_profile(
    "flowvid",
    max_examples=20,
    derandomize=True,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("flowvid")


@pytest.fixture
def float64():
    """The test in double precision, where a wrong formula cannot hide behind rounding."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def perturbed():
    """A function that adds seeded noise to every trainable leaf, so that no network is zero."""

    def perturb(params, scale=0.1):
        rng = np.random.default_rng(0)

        def noisy(path, p):
            if is_constant(path):
                return p
            # Added on the host: JAX would compile an addition for each shape.
            return jnp.asarray(np.asarray(p) + scale * rng.normal(size=p.shape))

        return jax.tree_util.tree_map_with_path(noisy, params)

    return perturb


def pytest_collection_finish():
    """What has been imported lives as long as the process: no collection looks at it again."""
    gc.collect()
    gc.freeze()


MOST_MAPPINGS = 10_000  # which are about 2 GB of compiled programs


@pytest.fixture(scope="module", autouse=True)
def few_programs():
    """Files share compiled programs, until there are many.

    A process may have 65,530 mappings; with thousands of compiled programs it crashes there.
    """
    yield
    maps = Path("/proc/self/maps")
    if not maps.exists() or maps.read_text(encoding="utf-8").count("\n") > MOST_MAPPINGS:
        jax.clear_caches()
        scoring.evaluator.cache_clear()
        scoring.label_evaluator.cache_clear()
        gc.collect()
