"""Programs for a CPU are compiled with fewer optimisations, others with all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowvid.parallel import compilation


@pytest.fixture
def optimised():
    """As outside of the tests, which compile without optimisations."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def test_only_programs_for_a_cpu_have_options(optimised, monkeypatch):
    assert compilation.compiler_options() == {"xla_backend_optimization_level": 1}
    assert compilation.compiler_options(level=0) == {"xla_backend_optimization_level": 0}
    for device in ("gpu", "tpu"):
        monkeypatch.setattr(jax, "default_backend", lambda device=device: device)
        assert compilation.compiler_options() is None


def test_lowered_programs_are_compiled_with_them(optimised):
    lowered = jax.jit(jnp.sin).lower(1.0)
    found = []
    compile_lowered = type(lowered).compile

    class Recorded:
        def compile(self, compiler_options):
            found.append(compiler_options)
            return compile_lowered(lowered, compiler_options=compiler_options)

    assert float(compilation.compiled(Recorded())(1.0)) == pytest.approx(np.sin(1.0))
    assert found == [{"xla_backend_optimization_level": 1}]


def test_jaxs_own_variable_takes_precedence(optimised):
    jax.config.update("jax_disable_most_optimizations", True)
    assert compilation.compiler_options() is None


def test_a_function_is_compiled_at_its_first_call_with_the_options(optimised, monkeypatch):
    made, of_jax = [], jax.jit

    def recorded(function, **options):
        made.append(options)
        return of_jax(function, **options)

    monkeypatch.setattr(jax, "jit", recorded)

    def power(exponent, x):
        """Returns x to a power."""
        return jnp.sin(x) ** exponent

    compiled = compilation.jit(power, static_argnums=0)
    assert not made
    assert compiled.__doc__ == power.__doc__
    x = jnp.linspace(0, 3, 7)
    for exponent in (2, 3):
        np.testing.assert_allclose(compiled(exponent, x), power(exponent, x), rtol=1e-6)
    assert made == [
        {"static_argnums": 0, "compiler_options": {"xla_backend_optimization_level": 1}}
    ]
