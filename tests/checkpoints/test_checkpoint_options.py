from __future__ import annotations

import json

import pytest

from workflow_scripts.checkpoints.options import Normalisation, options_of, parse_options
from workflow_scripts.problems import InputError

MINIMAL = {"format": "torchvision", "architecture": "resnet18", "normalisation": "imagenet"}


def test_the_three_needed_keys_are_enough() -> None:
    options = parse_options(json.dumps(MINIMAL))
    assert options.normalisation == Normalisation(
        "mean_std", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    )
    assert (options.size_px, options.weights) == (224, "file")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"arcitecture": "x"}, "did you mean 'architecture'?"),
        ({"normalisation": "imagnet"}, "'imagenet', 'none', 'histogram' or"),
        ({"normalisation": {"mean": [0, 0, 0], "std": [1, 0, 1]}}, "3 positive numbers"),
        ({"normalisation": {"mean": [0, 0], "std": [1, 1]}}, "3 numbers"),
        ({"normalisation": {"mean": [124, 116, 104], "std": [58, 57, 57]}}, "from 0 to 1"),
        ({"weights": "random"}, "'file' or 'seeded', found 'random'"),
        ({"weights": "seeded"}, "key 'seed': expected a value"),
        ({"seed": -1}, "an integer of at least 0, found -1"),
        ({"size_px": True}, "an integer of at least 1, found True"),
        ({"licence": 4}, "key 'licence': expected a text, found 4"),
        ({"url": "ftp://host/file"}, "key 'url': expected an http or https address"),
        ({"mirrors": ["file:///etc/passwd"]}, "key 'mirrors': expected an http or https address"),
        ({"mirrors": "weights.pth"}, "key 'mirrors': expected an http or https address"),
        ({"sha256": "abc"}, "key 'sha256': expected hexadecimal digits"),
        ({"md5_prefix": "A04E"}, "key 'md5_prefix': expected hexadecimal digits"),
        ({"size_bytes": 0}, "key 'size_bytes': expected an integer of at least 1"),
        ({"size_mb": "big"}, "key 'size_mb': expected a positive number of megabytes"),
    ],
)
def test_a_wrong_entry_is_refused_by_key(change: dict[str, object], expected: str) -> None:
    with pytest.raises(InputError) as caught:
        options_of(MINIMAL | change)
    assert expected in str(caught.value)


@pytest.mark.parametrize("key", MINIMAL)
def test_a_missing_key_is_refused_by_name(key: str) -> None:
    entry = {name: value for name, value in MINIMAL.items() if name != key}
    with pytest.raises(InputError, match=f"key '{key}': expected a value, found no such key"):
        options_of(entry)


def test_all_problems_of_an_entry_come_at_once() -> None:
    with pytest.raises(InputError) as caught:
        options_of({"format": 1, "weights": 2, "sed": 3})
    assert len(caught.value.problems) == 5  # two values, one unknown key, two missing


@pytest.mark.parametrize("text", ["", "[]", "{'format': 1}"])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--options: expected a JSON object"):
        parse_options(text)
