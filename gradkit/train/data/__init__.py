"""Data of a training run: load a source, split it, scale it, and cut it into batches."""

from gradkit.train.data.batches import Batches as Batches
from gradkit.train.data.dataset import Dataset as Dataset
from gradkit.train.data.dataset import Split as Split
from gradkit.train.data.load import load_dataset as load_dataset
