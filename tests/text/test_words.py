"""Words of texts, and the encoder that learns them."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import pad

from forger.errors import ConfigError
from forger.text import Learned
from forger.text.words import Vocabulary, words_of


def test_words_are_those_of_all_alphabets_in_lower_case() -> None:
    assert words_of("A thick, Slanted SEVEN: it's 7!") == [
        *("a", "thick", ",", "slanted", "seven", ":", "it's", "7", "!"),
    ]
    assert words_of("Красная цифра ПЯТЬ") == ["красная", "цифра", "пять"]
    assert words_of("赤い七 ok") == ["赤", "い", "七", "ok"]  # no spaces: sign by sign
    assert words_of("ﬁne\u2003line") == ["fine", "line"]  # a ligature, and a wide space
    assert words_of("  ") == []


def test_frequent_words_come_first_and_no_others_are_known() -> None:
    known = Vocabulary.of(["red red on blue", "red on"], most=2)
    assert known.words == ("red", "on")
    assert known.numbers(["blue red on on red"], 4).tolist() == [[1, 2, 2, 1]]
    assert known.numbers(["blue", "on", "on red on"], 2).tolist() == [[0, 0], [2, 0], [2, 1]]
    assert known.numbers(["blue", "on"], 2).tolist() == [[0], [2]]
    assert known.numbers([], 2).shape == (0, 1)
    assert known.unknown("blue, red: blue sky on") == ["blue", "sky"]


def test_an_embedding_is_the_state_at_the_last_word() -> None:
    """What stands behind it does not count."""
    torch.manual_seed(0)
    encoder = Learned(("red", "on", "blue"), dim=5, word_dim=4, longest=6)
    network = encoder.network()
    rows = encoder.encode(["red on blue", "red on", "blue"])
    embedding = network(rows)
    assert embedding.shape == (3, 5)
    for row, length in zip(range(3), (3, 2, 1), strict=True):
        alone = network.gru(network.words(rows[row : row + 1, :length]))[0][:, -1]
        torch.testing.assert_close(embedding[row : row + 1], alone)
    torch.testing.assert_close(network(pad(rows, (0, 3))), embedding)


def test_each_side_learns_a_network_of_its_own() -> None:
    encoder = Learned(("red",), dim=3, word_dim=2)
    one, other = encoder.network(), encoder.network()
    assert not {id(p) for p in one.parameters()} & {id(p) for p in other.parameters()}


def test_a_text_without_any_known_word_is_refused_and_unknown_ones_are_told() -> None:
    encoder = Learned(("red", "on", ","))
    assert encoder.check("red on, green!") == ["green"]
    with pytest.raises(ConfigError, match=r"text='зелёный': has no word of the training captions"):
        encoder.check("зелёный")


@pytest.mark.parametrize("name", ["dim", "word_dim", "longest"])
def test_sizes_are_positive(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"text\.{name}=0"):
        Learned(("red",), **{name: 0})
