"""Does a run make digits? Counts what a classifier sees in its samples.

    python benchmarks/digits.py logs/quickstart/<run>

A small CNN is trained on real digits (the 60,000 of MNIST with `--root`, else the 5,000 of the
embedded sample) and its accuracy on held-out ones is printed. Then 1,000 samples of the averaged
generator are classified: the share of each digit, and the mean confidence. The verdict asks for at
least `--classes` digits with 3 % or more each and a mean confidence of 0.8.
"""

from __future__ import annotations

import argparse
import json

import torch
from torch import Tensor, nn

from forger.data import MNIST, ImageDataModule, MNISTSample
from forger.runs.load import load_run


def prepared(images: Tensor) -> Tensor:
    """Scales uint8 pixels to [-1, 1]."""
    return images.float() / 127.5 - 1


def make_classifier() -> nn.Sequential:
    """Returns a small CNN from `(B, 1, 28, 28)` to `(B, 10)` logits."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 49, 128),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(128, 10),
    )


def train_classifier(data: ImageDataModule, iterations: int = 1500) -> tuple[nn.Module, float]:
    """Returns the classifier in eval mode and its accuracy on the held-out split."""
    torch.manual_seed(0)
    classifier = make_classifier()
    optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-3)
    images, labels = data.train_images, data.train_labels
    assert labels is not None
    for _ in range(iterations):
        picked = torch.randint(len(images), (128,))
        loss = nn.functional.cross_entropy(classifier(prepared(images[picked])), labels[picked])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    classifier.eval()
    assert data.test_labels is not None
    with torch.no_grad():
        guesses = torch.cat(
            [classifier(prepared(i)).argmax(1) for i in data.test_images.split(500)]
        )
    return classifier, (guesses == data.test_labels).double().mean().item()


def census(run: str, classifier: nn.Module, n: int = 1000) -> tuple[list[float], float]:
    """Returns the share of each digit among `n` samples and the mean confidence."""
    gan = load_run(run).gan
    noise = gan.sample_noise(n, torch.Generator().manual_seed(0))
    with torch.no_grad():
        images = nn.functional.interpolate(gan(noise), size=28, mode="bilinear", antialias=True)
        confidence, digits = classifier(images).softmax(1).max(1)
    return (digits.bincount(minlength=10) / n).tolist(), confidence.mean().item()


def main() -> None:
    """Prints accuracy, census and verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", help="run folders or checkpoints")
    parser.add_argument("--root", help="folder that holds MNIST/raw; default: the embedded sample")
    parser.add_argument("--classes", type=int, default=10, help="digits asked for")
    options = parser.parse_args()
    data = MNIST(root=options.root) if options.root else MNISTSample()
    data.prepare_data()
    classifier, accuracy = train_classifier(data)
    print(f"classifier: {accuracy:.2%} of {len(data.test_images):,} held-out real digits")
    for run in options.runs:
        shares, confidence = census(run, classifier)
        reached = sum(share >= 0.03 for share in shares)
        verdict = "digits" if reached >= options.classes and confidence >= 0.8 else "NOT digits"
        print(json.dumps({"run": run, "shares": [round(s, 3) for s in shares]}))
        print(f"  {reached} classes with 3 % or more, mean confidence {confidence:.3f}: {verdict}")


if __name__ == "__main__":
    main()
