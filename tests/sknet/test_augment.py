# SPDX-License-Identifier: Apache-2.0
"""Augmentation: colours, policies, crops, mixing. Each draws from the generator it is given and nothing else."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sknet.config import Config, ConfigError, load_config
from sknet.config.policy import Policy, parse_policy
from sknet.data.augment import Augment, padded_crop
from sknet.data.color import ColorJitter
from sknet.data.folder import ImageFolder
from sknet.data.mixing import Mixing, cut_box
from sknet.data.pipeline import train_batches
from sknet.data.policies import OPERATIONS, Canvas, PolicyAugment

CANVAS = Canvas(Image.Resampling.NEAREST, (1, 2, 3))


class Drawn:
    """Stands for a generator whose draws are known: Drawn(random=[...], beta=[...], ...)."""

    def __init__(self, **draws: list) -> None:
        self._draws = draws

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: self._draws[name].pop(0)


def noise(size: tuple[int, int] = (20, 16), seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


ALL = {
    "policy": {"auto_augment": "randaug-m9-n3-mstd0.5", "vflip": 0.3},
    "imagenet": {"auto_augment": "autoaug-mstd0.5", "mixup": 0.2, "cutmix": 1.0, "cutmix_prob": 0.8},
    "jitter": {"color_jitter": (0.4, 0.4, 0.4, 0.1), "crop_padding": 3, "cutmix": 1.0, "re_prob": 0.5},
}


@pytest.mark.parametrize("values", ALL.values(), ids=ALL)
def test_seed_epoch_and_index_decide(image_folder, values: dict) -> None:
    """Neither the number of threads nor the place where the iteration starts changes a pixel or a target."""
    folder = ImageFolder.open(image_folder({"train": 9}), "train")

    def epoch(number: int = 3, first: int = 0, **more) -> tuple[np.ndarray, np.ndarray]:
        config = Config(batch_size=4, image_resize=16, drop_remainder=False, **values, **more)
        pairs = list(train_batches(config, folder, number).starting_at(first))
        return np.concatenate([x for x, _ in pairs]), np.concatenate([y for _, y in pairs])

    whole, late = epoch(num_parallel_workers=1), epoch(num_parallel_workers=2, first=2)
    for a, b in zip(whole, late, strict=True):
        np.testing.assert_array_equal(a[8:], b)
    for other in (epoch(seed=1), epoch(4)):
        assert not np.array_equal(whole[0], other[0])
    plain = Config(batch_size=4, image_resize=16, drop_remainder=False)
    assert not np.array_equal(whole[0], np.concatenate([x for x, _ in train_batches(plain, folder, 3)]))


# ---- policies ----


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("randaug", Policy("randaug", spread=0.5)),
        ("randaug-m7-mstd0.5", Policy("randaug", 7, spread=0.5)),
        ("randaug-m10-n3-mstd0-mmax12-inc1-p0.8", Policy("randaug", 10, 3, 0.8, 0.0, 12, True)),
        ("randaug-mstd101-inc0", Policy("randaug", spread=None)),
        ("autoaug", Policy("autoaug")),
        ("autoaugr-mstd0.5", Policy("autoaugr", spread=0.5)),
    ],
)
def test_policy_texts(text: str, policy: Policy) -> None:
    assert parse_policy(text) == policy


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"auto_augment": "augmix-m3"}, "auto_augment: expected a policy of autoaug, autoaugr, randaug, such as"),
        ({"auto_augment": "randaug-w0"}, "after randaug- any of inc, m, mmax, mstd, n, p, each with a number"),
        ({"auto_augment": "autoaug-m7"}, "after autoaug- any of mstd, each with a number; got autoaug-m7"),
        ({"auto_augment": "randaug-m"}, "each with a number"),
        ({"auto_augment": "randaug-p1.5"}, "expected p at most 1"),
        ({"auto_augment": "randaug-n0"}, "expected n a whole number, at least 1"),
        ({"color_jitter": "0.1 0.2"}, "color_jitter: expected 1, 3 or 4 numbers"),
        ({"color_jitter": [0.4, 0.4, 0.4, 0.6]}, "the fourth at most 0.5"),
        ({"color_jitter": -0.4}, "none below 0"),
        ({"color_jitter": "much"}, "color_jitter: expected a number, got 'much'"),
        ({"re_scale": [0.5, 0.1]}, "re_scale: expected 0 < low <= high"),
        ({"mixup": -1}, "mixup: expected at least 0"),
        ({"corrupt": "ignore"}, "corrupt: expected one of error, skip; got ignore"),
    ],
)
def test_bad_values(values: dict, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, **values)
    assert words in str(caught.value)


def test_jitter_is_one_number_or_more() -> None:
    for given, want in ((0.4, (0.4,)), ("0.4", (0.4,)), ("0.1 0.2 0.3", (0.1, 0.2, 0.3)), ([0.4], (0.4,)), (None, ())):
        assert load_config(None, color_jitter=given).color_jitter == want


def apply(name: str, image: Image.Image, magnitude: float, first: float = 0.9) -> np.ndarray:
    """`first` below a half: the other direction."""
    return pixels(OPERATIONS[name](image, magnitude, Drawn(random=[first]), CANVAS))


def test_operations() -> None:
    image = noise()
    x = pixels(image)
    for name in ("AutoContrast", "Equalize", "Invert"):
        assert not np.array_equal(apply(name, image, 0), x)
        np.testing.assert_array_equal(apply(name, image, 0), apply(name, image, 10))
    np.testing.assert_array_equal(apply("Invert", image, 5), 255 - x)

    for name, magnitude, bits in (
        ("Posterize", 10, 4), ("Posterize", 5, 2), ("Posterize", 2, 0),
        ("PosterizeOriginal", 10, 8), ("PosterizeOriginal", 0, 4),
        ("PosterizeIncreasing", 0, 4), ("PosterizeIncreasing", 6, 2), ("PosterizeIncreasing", 10, 0),
    ):  # fmt: skip
        np.testing.assert_array_equal(
            apply(name, image, magnitude), x >> (8 - bits) << (8 - bits), f"{name} {magnitude}"
        )
    for name, magnitude, threshold in (
        ("Solarize", 5, 128), ("Solarize", 10, 256), ("Solarize", 0, 0),
        ("SolarizeIncreasing", 5, 128), ("SolarizeIncreasing", 0, 256), ("SolarizeIncreasing", 10, 0),
    ):  # fmt: skip
        want = np.where(x < threshold, x, 255 - x)
        np.testing.assert_array_equal(apply(name, image, magnitude), want, f"{name} {magnitude}")

    for name, magnitude, first, factor in (
        ("Brightness", 10, 0.9, 1.9), ("Brightness", 0, 0.9, 0.1), ("Brightness", 5, 0.1, 1.0),
        ("BrightnessIncreasing", 0, 0.9, 1.0), ("BrightnessIncreasing", 5, 0.9, 1.45),
        ("BrightnessIncreasing", 5, 0.1, 0.55), ("BrightnessIncreasing", 10, 0.1, 0.1),
    ):  # fmt: skip
        got = apply(name, image, magnitude, first)
        assert np.abs(got - np.clip(x * factor, 0, 255)).max() <= 1, (name, magnitude, first)
    for kind in ("Color", "Contrast", "Sharpness"):
        for name in (kind, f"{kind}Increasing"):
            assert not np.array_equal(apply(name, image, 9), x)
        assert np.abs(apply(kind, image, 5) - x).max() <= 1  # a factor of 1
        np.testing.assert_array_equal(apply(f"{kind}Increasing", image, 0), x)


def test_movements() -> None:
    image = noise((20, 20))
    x, fill = pixels(image), CANVAS.fill
    # A half of 0.45 of 20 pixels is 4.5: nearest is 4 or 5 columns, either way.
    for first, shown, uncovered in ((0.9, slice(0, 15), slice(16, 20)), (0.1, slice(5, 20), slice(0, 4))):
        moved = apply("TranslateX", image, 5, first)
        assert (moved[:, uncovered] == fill).all()
        assert any(np.array_equal(moved[:, shown], x[:, shown.start + d : shown.stop + d]) for d in (-5, -4, 4, 5))
        np.testing.assert_array_equal(apply("TranslateY", image.transpose(Image.Transpose.TRANSPOSE), 5, first),
                                      moved.transpose(1, 0, 2))  # fmt: skip
    sheared = apply("ShearX", image, 10)
    np.testing.assert_array_equal(sheared[0], x[0])
    assert (sheared[19, 15:] == fill).all() and not (sheared[19, :14] == fill).all()
    np.testing.assert_array_equal(
        apply("ShearY", image.transpose(Image.Transpose.TRANSPOSE), 10), sheared.transpose(1, 0, 2)
    )
    there, back = apply("Rotate", image, 10), apply("Rotate", image, 10, 0.1)
    assert (there[0, 0] == fill).all() and not np.array_equal(there, back)
    np.testing.assert_array_equal(there, pixels(image.rotate(30, fillcolor=fill)))
    np.testing.assert_array_equal(apply("Rotate", image, 0), x)


def test_draws_of_a_policy() -> None:
    rng = np.random.default_rng(5)
    every = PolicyAugment(parse_policy("randaug-m6-n2-p0.7"), CANVAS)
    steps = [step for _ in range(1400) for step in every.steps(rng)]
    counts = Counter(name for name, _, _ in steps)
    assert len(counts) == 14 and all(120 < count < 280 for count in counts.values())  # 200 each
    assert {step[1:] for step in steps} == {(0.7, 6.0)}
    grows = PolicyAugment(parse_policy("randaug-inc1"), CANVAS)
    names = {name for _ in range(300) for name, _, _ in grows.steps(rng)}
    assert {"PosterizeIncreasing", "ColorIncreasing", "Rotate"} < names and "Posterize" not in names

    drawn = [every.magnitude(6, rng) for _ in range(2000)]
    assert abs(np.mean(drawn) - 6) < 0.1 and abs(np.std(drawn) - 0.5) < 0.1
    uniform = PolicyAugment(parse_policy("randaug-mstd101"), CANVAS)
    drawn = [uniform.magnitude(8, rng) for _ in range(2000)]
    assert 0 <= min(drawn) < 0.2 and 7.8 < max(drawn) <= 8 and abs(np.mean(drawn) - 4) < 0.2
    capped = PolicyAugment(parse_policy("randaug-mstd5-mmax7"), CANVAS)
    drawn = [capped.magnitude(6, rng) for _ in range(500)]
    assert (min(drawn), max(drawn)) == (0, 7)

    for text, posterize in (("autoaug", "PosterizeOriginal"), ("autoaugr", "PosterizeIncreasing")):
        imagenet = PolicyAugment(parse_policy(text), CANVAS)
        pairs = {tuple(imagenet.steps(rng)) for _ in range(1000)}
        assert len(pairs) == 20  # 25, five of them twice
        assert ((posterize, 0.4, 8), ("Rotate", 0.6, 9)) in pairs
        assert imagenet.magnitude(4, rng) == 4


def test_probability_of_a_step() -> None:
    always = PolicyAugment(Policy("randaug", layers=1, probability=1.0), CANVAS)
    never = PolicyAugment(Policy("randaug", layers=1, probability=0.0), CANVAS)
    half = PolicyAugment(Policy("randaug", layers=1, probability=0.5), CANVAS)
    image, changed = noise(), Counter()
    for seed in range(300):
        for name, policy in (("always", always), ("half", half), ("never", never)):
            rng = np.random.default_rng(seed)
            changed[name] += not np.array_equal(pixels(policy(image, rng)), pixels(image))
    assert changed["never"] == 0
    assert changed["always"] > 240  # some change nothing: contrast that is full already
    assert 0.4 < changed["half"] / changed["always"] < 0.6


def test_imagenet_policy_is_mindcvs() -> None:
    theirs = pytest.importorskip("mindcv.data.auto_augment")
    for text in ("autoaug", "autoaugr"):
        ours = PolicyAugment(parse_policy(text), CANVAS)
        for number, pair in enumerate(theirs.auto_augment_policy(text, {"img_mean": CANVAS.fill})):
            want = [(op.name, op.prob, op.magnitude) for op in pair]
            assert ours.steps(Drawn(integers=[number])) == want


# ---- colours and crops ----


def test_jitter() -> None:
    grey = Image.new("RGB", (4, 4), (100, 100, 100))
    rng = np.random.default_rng(0)
    means = np.array([pixels(ColorJitter([0.4, 0, 0])(grey, rng)).mean() for _ in range(400)])
    assert 60 <= means.min() < 64 and 136 < means.max() <= 140
    for amounts in ([0, 0.4, 0.4, 0.5], [0, 0, 0]):  # nothing to see in one grey
        assert np.abs(pixels(ColorJitter(amounts)(grey, rng)) - 100).max() <= 1

    image = noise()
    for seed in range(3):
        alike = [
            pixels(ColorJitter(a)(image, np.random.default_rng(seed))) for a in ([0.3], [0.3] * 3, [0.3] * 3 + [0])
        ]
        np.testing.assert_array_equal(alike[0], alike[1])
        np.testing.assert_array_equal(alike[0], alike[2])
        assert not np.array_equal(alike[0], pixels(image))

    red = Image.new("RGB", (4, 4), (200, 0, 0))
    seen = np.array([pixels(ColorJitter([0, 0, 0, 0.5])(red, rng))[0, 0] for _ in range(300)])
    assert (np.abs(seen.max(axis=1) - 200) <= 1).all() and (seen.min(axis=1) <= 1).all()  # value and saturation stay
    assert (seen.argmax(axis=1) == [[0], [1], [2]]).mean(axis=1).min() > 0.2  # red, green and blue


def test_a_policy_takes_the_place_of_jitter() -> None:
    image = noise((16, 16))
    settings = {"image_resize": 16, "scale": (1.0, 1.0), "ratio": (1.0, 1.0), "hflip": 0.0}
    both, policy, jitter = (
        Augment(Config(**settings, **more))(image, np.random.default_rng(1))
        for more in (
            {"auto_augment": "randaug", "color_jitter": (0.4,)},
            {"auto_augment": "randaug"},
            {"color_jitter": (0.4,)},
        )
    )
    np.testing.assert_array_equal(both, policy)
    assert not np.array_equal(both, jitter)


def test_padded_crop() -> None:
    image, rng = noise((7, 7)), np.random.default_rng(0)
    padded = np.pad(pixels(image), ((3, 3), (3, 3), (0, 0)))
    windows = {padded[i : i + 7, j : j + 7].tobytes(): (i, j) for i in range(7) for j in range(7)}
    seen = Counter(windows[pixels(padded_crop(image, 3, rng)).tobytes()] for _ in range(2000))
    assert len(seen) == 49 and min(seen.values()) > 15


def test_other_sizes_are_resized_before_the_padded_crop() -> None:
    config = Config(image_resize=8, crop_padding=2, hflip=0.0, mean=(0.0,) * 3, std=(1.0,) * 3)
    white = Image.new("RGB", (40, 30), (255, 255, 255))
    shares = [(Augment(config)(white, np.random.default_rng(seed)) > 0).mean() for seed in range(40)]
    assert min(shares) < 0.7 and max(shares) == 1.0  # (6 / 8)^2 is what the corners leave


def test_vertical_flip() -> None:
    image = noise((8, 8))
    settings = {"image_resize": 8, "scale": (1.0, 1.0), "ratio": (1.0, 1.0), "hflip": 0.0}
    plain, flipped = (Augment(Config(**settings, vflip=p))(image, np.random.default_rng(0)) for p in (0.0, 1.0))
    np.testing.assert_array_equal(flipped, plain[:, ::-1])


# ---- mixing ----


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize(("share", "centre"), [(0.3, (7, 9)), (0.75, (1, 11)), (1.0, (4, 4))])
def test_mixing_is_mindcvs(monkeypatch: pytest.MonkeyPatch, cut: bool, share: float, centre: tuple) -> None:
    theirs = pytest.importorskip("mindcv.data.mixup")
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((6, 3, 10, 12)).astype(np.float32), rng.integers(0, 5, 6).astype(np.int32)
    # Of the draws the first asks whether to mix; with both kinds the second asks which.
    ours = Mixing(0.2, 1.0, 1.0, 5)(
        images.copy(), labels, Drawn(random=[0.0, 0.0 if cut else 0.9], beta=[share], integers=list(centre))
    )
    fake = Drawn(rand=[0.0, 0.0 if cut else 0.9], beta=[share], randint=list(centre))
    for name in ("rand", "beta", "randint"):
        monkeypatch.setattr(theirs.np.random, name, getattr(fake, name))
    want = theirs.Mixup(0.2, 1.0, label_smoothing=0.0, num_classes=5)(images.copy(), labels)
    for a, b in zip(ours, want, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_mixing_draws() -> None:
    rng = np.random.default_rng(2)
    labels = np.array([0, 1, 2, 3], np.int32)
    images = np.broadcast_to(np.arange(1, 5, dtype=np.float32)[:, None, None, None], (4, 1, 8, 8))
    kinds = Counter()
    for _ in range(400):
        mixed, targets = Mixing(0.4, 1.0, 0.75, 4)(images.copy(), labels, rng)
        np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)
        # Each target says how much of which image there is.
        np.testing.assert_allclose(mixed.mean(axis=(1, 2, 3)), targets @ np.arange(1, 5), rtol=1e-5)
        whole = np.array_equal(mixed, images)
        kinds["none" if whole else "cutmix" if np.isin(mixed, images).all() else "mixup"] += 1
    # Some that are drawn keep everything.
    assert 80 < kinds["none"] < 180 and kinds["mixup"] > 80 and kinds["cutmix"] > 80
    assert Counter(len(np.unique(Mixing(0.4, 0, 1, 4)(images.copy(), labels, rng)[0])) for _ in range(20))[4] > 15


def test_cut_boxes() -> None:
    rng = np.random.default_rng(0)
    boxes = np.array([cut_box((20, 30), 0.75, rng) for _ in range(500)])
    height, width = boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]
    assert (height.max(), width.max()) == (10, 14)  # half of 20; half of 30, of which whole halves are taken
    assert height.min() == 5 and width.min() == 7
    assert boxes.min() == 0 and boxes[:, 1].max() == 20 and boxes[:, 3].max() == 30
    assert cut_box((20, 30), 1.0, rng)[:2] in {(i, i) for i in range(20)}
