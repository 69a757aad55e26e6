"""A generator of real digits at work: those of the test set are found again, a drawn 1 is a 1."""

from __future__ import annotations

import pytest
import torch
from composing import compose_config
from training import run_folder

from forger.app.explore.studio import Studio
from forger.app.run.load import load_run
from forger.app.run.train import train
from forger.data import MNISTSample
from forger.metrics.classifier import Classifier

pytestmark = pytest.mark.slow  # trains for half a minute, or longer beside others
OF_A_CLASS = 10  # test digits
STROKES = {  # the column of a stroke at its upper and at its lower end
    **{"upright": (14, 14), "slanted": (16, 12), "to the left": (11, 10)},
}


@pytest.fixture(scope="module")
def data() -> MNISTSample:
    return MNISTSample(batch_size=64)


@pytest.fixture(scope="module")
def studio(data: MNISTSample, tmp_path_factory: pytest.TempPathFactory) -> Studio:
    folder = tmp_path_factory.mktemp("quickstart")
    words = ["experiment=quickstart", "trainer=cpu", "trainer.max_steps=600", "metrics=none"]
    words += [f"paths.log_dir={folder / 'logs'}", f"paths.cache_dir={folder / 'cache'}"]
    words += ["report=false"]
    train(compose_config("train", *words))
    classifier = Classifier()
    classifier.prepare(data, folder / "cache")
    return Studio(load_run(run_folder(folder)), classifier.forward, classifier.classes or ())


def test_digits_of_the_test_set_are_found_again(studio: Studio, data: MNISTSample) -> None:
    places = [(data.test_labels == one).nonzero()[:OF_A_CLASS, 0] for one in range(10)]
    images, labels = data.test_images[torch.cat(places)], data.test_labels[torch.cat(places)]
    found = studio.sampler.project(images, features=studio._features)
    pixels = ((found.images + 1) * 127.5).round()
    assert studio.classifier is not None
    read = studio.classifier(pixels)[1].argmax(1)
    print(f"{int((read == labels).sum())} of {len(labels)} keep their class")
    assert (read == labels).sum() >= 0.9 * len(labels)
    assert (found.distance < found.random_distance).all()


@pytest.mark.parametrize("name", STROKES)
def test_a_drawn_one_is_read_as_a_one(name: str, studio: Studio) -> None:
    upper, lower = STROKES[name]
    drawn = torch.zeros(28, 28)
    for row in range(6, 22):
        column = round(upper + (lower - upper) * (row - 6) / 15)
        drawn[row, column : column + 2] = 1
    mask = drawn + 0.05 * (1 - drawn)  # a little of what is not drawn, as the page has it
    edit, picked = studio.scribble(
        (mask, 2 * drawn[None] - 1, 0 * drawn), None, (0.1, 0.02), lambda *_: None
    )
    assert len(picked) == 4
    read = [
        studio.caption(image, one.label)[0] for image, one in zip(edit.images, picked, strict=True)
    ]
    print(name, read)
    assert {"1", "7"} & set(read)
