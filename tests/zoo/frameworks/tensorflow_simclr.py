"""Write a SimCLR-like checkpoint with TensorFlow's own saver, and TensorFlow's own features.

    .venv-zoo/bin/python tests/zoo/frameworks/tensorflow_simclr.py OUT_FOLDER

A ResNet-50 in TensorFlow's operations, NHWC, in evaluation mode. Variables are numbered by a
counter in the order in which the network asks for them, the shortcut of a group's first block
first: what TensorFlow 1 did to SimCLR's layers, and independent of the converter's list.
Convolutions pad as SimCLR's do (a fixed half kernel on both sides where they stride, SAME
otherwise); the max-pool pads SAME.
"""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import numpy as np
import tensorflow as tf

GROUPS = (3, 4, 6, 3)
SIDE_PX = 64
N_IMAGES = 3


class Network:
    """The forward pass; makes each variable when it first needs it."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.variables: dict[str, tf.Variable] = {}
        self.n_convolutions = self.n_norms = 0

    def variable(self, name: str, values: np.ndarray) -> tf.Variable:
        self.variables[name] = tf.compat.v1.Variable(values.astype(np.float32), name=name)
        return self.variables[name]

    def convolution(self, x: tf.Tensor, filters: int, size: int, stride: int) -> tf.Tensor:
        suffix = f"_{self.n_convolutions}" if self.n_convolutions else ""
        self.n_convolutions += 1
        shape = (size, size, int(x.shape[-1]), filters)
        values = self.rng.normal(0, np.sqrt(2 / np.prod(shape[:3])), shape)
        kernel = self.variable(f"base_model/conv2d{suffix}/kernel", values)
        if stride > 1:
            before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
            x = tf.pad(x, [[0, 0], [before, after], [before, after], [0, 0]])
        return tf.nn.conv2d(x, kernel, stride, "VALID" if stride > 1 else "SAME")

    def norm(self, x: tf.Tensor, is_active: bool = True) -> tf.Tensor:
        suffix = f"_{self.n_norms}" if self.n_norms else ""
        self.n_norms += 1
        width = int(x.shape[-1])
        draws = {
            "gamma": self.rng.uniform(0.2, 0.6, width),
            "beta": self.rng.normal(0, 0.1, width),
            "moving_mean": self.rng.normal(0, 0.1, width),
            "moving_variance": self.rng.uniform(0.5, 1.5, width),
        }
        here = f"base_model/batch_normalization{suffix}"
        gamma, beta, mean, var = (self.variable(f"{here}/{k}", v) for k, v in draws.items())
        x = tf.nn.batch_normalization(x, mean, var, beta, gamma, 1e-5)
        return tf.nn.relu(x) if is_active else x

    def block(self, x: tf.Tensor, filters: int, stride: int, is_first: bool) -> tf.Tensor:
        shortcut = x
        if is_first:
            shortcut = self.norm(self.convolution(x, 4 * filters, 1, stride), is_active=False)
        x = self.norm(self.convolution(x, filters, 1, 1))
        x = self.norm(self.convolution(x, filters, 3, stride))
        x = self.norm(self.convolution(x, 4 * filters, 1, 1), is_active=False)
        return tf.nn.relu(x + shortcut)

    def features(self, images: tf.Tensor) -> tf.Tensor:
        x = self.norm(self.convolution(images, 64, 7, 2))
        x = tf.nn.max_pool2d(x, 3, 2, "SAME")
        for group, n_blocks in enumerate(GROUPS):
            for block in range(n_blocks):
                stride = 2 if group and block == 0 else 1
                x = self.block(x, 64 << group, stride, block == 0)
        return tf.reduce_mean(x, axis=[1, 2])


def main(folder: Path) -> None:
    """Write ResNet50_1x.zip, the unpacked files and expected.npz into `folder`."""
    images = np.random.default_rng(1).random((N_IMAGES, SIDE_PX, SIDE_PX, 3), dtype=np.float32)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        network = Network(seed=0)
        features = network.features(tf.constant(images))
        variables = dict(network.variables)
        variables["global_step"] = tf.compat.v1.Variable(np.int64(225206), name="global_step")
        dense = np.zeros((2048, 1000), np.float32)
        name = "head_supervised/linear_layer/dense/kernel"
        variables[name] = tf.compat.v1.Variable(dense, name=name)
        slot = "base_model/conv2d/kernel/Momentum"
        variables[slot] = tf.compat.v1.Variable(np.ones((7, 7, 3, 64), np.float32), name="slot")
        session.run(tf.compat.v1.global_variables_initializer())
        expected = session.run(features)
        saver = tf.compat.v1.train.Saver(var_list=variables)
        prefix = folder / "ResNet50_1x" / "model.ckpt"
        prefix.parent.mkdir(parents=True)
        saver.save(session, str(prefix), global_step=225206)
    with zipfile.ZipFile(folder / "ResNet50_1x.zip", "w") as archive:
        for file in sorted(prefix.parent.iterdir()):
            archive.write(file, f"ResNet50_1x/{file.name}")
    np.savez(folder / "expected.npz", images=images.transpose(0, 3, 1, 2), features=expected)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
