"""Write a BYOL-like pickle with Haiku and dill, and Haiku's own features.

    .venv-zoo/bin/python tests/zoo/frameworks/haiku_byol.py OUT_FOLDER

Haiku's own ResNet-50 with random parameters and state. Its last layer, `logits`, is set to the
identity for the forward pass, so that its output is the pooled features. The experiment's state
is a named tuple, pickled by dill, as BYOL's is; three variants of the file hold NumPy arrays,
JAX arrays, and Haiku's old immutable mapping.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import dill
import haiku as hk
import haiku._src.data_structures as structures
import jax
import numpy as np

SIDE_PX = 64
Modules = dict[str, dict[str, np.ndarray]]

N_IMAGES = 3
WIDTH = 2048


class _ByolExperimentState(NamedTuple):
    online_params: Any
    target_params: Any
    online_state: Any
    target_state: Any
    opt_state: Any


class OldMapping(dict):
    """Stands for the immutable mapping of old Haiku, which pickled itself as class and dict."""

    def __reduce__(self) -> tuple[type, tuple[dict]]:
        return FLAT_MAPPING, (dict(self),)


FLAT_MAPPING = type("FlatMapping", (), {"__module__": "haiku._src.data_structures"})


def network(images: jax.Array, is_training: bool) -> jax.Array:
    """Return the output of Haiku's ResNet-50 (training mode makes the statistics)."""
    return hk.nets.ResNet50(WIDTH, resnet_v2=False)(images, is_training)


def randomised(tree: Modules, rng: np.random.Generator) -> Modules:
    """Return parameters or statistics with a random value of sensible scale in each entry."""
    out: Modules = {}
    for module, values in tree.items():
        out[module] = {}
        for name, value in values.items():
            shape = value.shape
            if name == "w":
                drawn = rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
            elif name == "scale":
                drawn = rng.uniform(0.2, 0.6, shape)
            elif module.endswith("var_ema"):
                drawn = rng.uniform(0.5, 1.5, shape)
            elif name == "counter":
                drawn = np.full(shape, 7)
            else:
                drawn = rng.normal(0, 0.1, shape)
            out[module][name] = np.asarray(drawn, dtype=value.dtype)
    return out


def with_identity(params: Modules) -> Modules:
    """Return the parameters with `logits` as the identity."""
    logits = {"w": np.eye(WIDTH, dtype=np.float32), "b": np.zeros(WIDTH, np.float32)}
    return {**params, "res_net50/~/logits": logits}


def main(folder: Path) -> None:
    """Write pretrain_res50x1.pkl, its two variants and expected.npz into `folder`."""
    rng = np.random.default_rng(0)
    images = np.random.default_rng(1).random((N_IMAGES, SIDE_PX, SIDE_PX, 3), dtype=np.float32)
    model = hk.transform_with_state(network)
    params, state = model.init(jax.random.PRNGKey(0), images, True)
    params, state = randomised(params, rng), randomised(state, rng)
    del params["res_net50/~/logits"]  # BYOL's network ends in its heads instead
    features, _ = model.apply(with_identity(params), state, None, images, False)
    np.savez(
        folder / "expected.npz",
        images=images.transpose(0, 3, 1, 2),
        features=np.asarray(features),
    )
    head = {"projector/linear": {"w": np.zeros((WIDTH, 16), np.float32)}}
    target = {name: {key: 0 * value for key, value in one.items()} for name, one in params.items()}
    wrappers = {
        "pretrain_res50x1.pkl": dict,
        "jax_arrays.pkl": lambda tree: jax.tree.map(jax.numpy.asarray, tree),
        "old_mapping.pkl": lambda tree: OldMapping(
            {name: OldMapping(one) for name, one in tree.items()}
        ),
    }
    for file, wrap in wrappers.items():
        record = _ByolExperimentState(wrap(params | head), target, wrap(state), {}, None)
        if file == "old_mapping.pkl":
            structures.FlatMapping = FLAT_MAPPING
        with (folder / file).open("wb") as handle:
            dill.dump({"experiment_state": record, "step": 1, "rng": np.zeros(2, "u4")}, handle)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
