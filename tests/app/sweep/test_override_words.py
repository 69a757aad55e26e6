from __future__ import annotations

import pytest

from forger.app.sweep.override_words import brief, by_key, swept, value


def test_only_what_differs_counts() -> None:
    jobs = [
        ("model=dcgan", "loss=hinge", "seed=0", "trainer.max_steps=2"),
        ("model=dcgan", "loss=wgan_gp", "seed=0", "trainer.max_steps=2"),
        ("model=dcgan", "loss=wgan_gp", "seed=1", "trainer.max_steps=2"),
    ]
    assert swept(jobs) == ("loss", "seed")
    assert swept(jobs[:1]) == ()


def test_a_word_that_some_jobs_lack_differs() -> None:
    assert swept([("+x=1",), ()]) == ("x",)
    assert swept([("~callbacks.samples",), ()]) == ("~callbacks.samples",)


def test_adding_and_changing_the_same_setting_is_one_key() -> None:
    assert swept([("+x=1",), ("++x=2",), ("x=3",)]) == ("x",)


@pytest.mark.parametrize(
    "word",
    [
        "sweep.resume=logs/a",
        "sweep.trial=3",
        "+hydra.job.num=3",
        "hydra/launcher=joblib",
        "resume=logs/a/3",
        "~hydra.sweep",
    ],
)
def test_words_for_the_sweep_and_hydra_are_hidden(word: str) -> None:
    assert by_key([word, "model=dcgan"]) == {"model": "model=dcgan"}


def test_settings_whose_names_begin_alike_are_shown() -> None:
    words = ["resume_from=a", "sweeps=1", "hydras.x=1"]
    assert list(by_key(words).values()) == words


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("name='two words'", "two words"),
        ('name="a=b"', "a=b"),
        ("logger.tags=[a,b]", "[a,b]"),
        ("init_from=a=b", "a=b"),
        ("name=", ""),
        ("~callbacks.samples", "~callbacks.samples"),
    ],
)
def test_values(word: str, expected: str) -> None:
    assert value(word) == expected


def test_keys_in_pictures_are_as_short_as_they_stay_clear() -> None:
    words = by_key(["optimizer.generator.lr=1", "optimizer.discriminator.lr=2", "+loss.n_critic=5"])
    assert brief(words, list(words)) == "generator.lr=1 discriminator.lr=2 n_critic=5"
