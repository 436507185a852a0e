"""The trainer with bad data: which examples --poison names, and what their loss is."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
# In a process of its own, whose flags are those of training.
CODE = """
import types
import jax, jax.numpy as jnp
from experiments.faults import poisoned_train
from flowvid.errors import ConfigError

assert poisoned_train.parse(["3", "5:7", "9:"]) == [(3, 4), (5, 7), (9, 2**31 - 1)]
for text in ("a", "3:b", ":4"):
    try:
        poisoned_train.parse([text])
    except ConfigError as error:
        assert f"--poison={text} is not a position" in str(error)
    else:
        raise AssertionError(text)

loss = lambda config, params, batch, step: (params * 2.0, {"other": params})
bad = poisoned_train.poisoned(loss, [(3, 4)])
for examples, finite in (([1, 2], True), ([2, 3], False)):
    batch = types.SimpleNamespace(example=jnp.array(examples))
    (value, logs), gradient = jax.value_and_grad(
        lambda params: bad(None, params, batch, 0), has_aux=True
    )(1.0)
    for number in (value, logs["bits_per_dim"], gradient):
        assert bool(jnp.isfinite(number)) == finite, (examples, number)
    assert logs["other"] == 1.0
"""


def test_the_loss_and_its_gradient_are_nan_on_the_named_examples_alone():
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
