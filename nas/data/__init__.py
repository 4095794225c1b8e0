"""Images for a search, and batches of them."""

from nas.data.batches import augment, normalise, shuffled
from nas.data.dataset import SOURCES, Dataset, Part, load_dataset, load_test

__all__ = ["SOURCES", "Dataset", "Part", "augment", "load_dataset", "load_test", "normalise", "shuffled"]
