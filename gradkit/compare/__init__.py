"""Comparison of runs: what differs in their configurations, metrics over seeds, findings; imports no torch.

`gradkit.compare.folders` finds and reads run folders, `gradkit.compare.comparison` compares them,
`python -m gradkit.compare` is the command.
"""

from gradkit.compare.arms import Arm as Arm
from gradkit.compare.comparison import Comparison as Comparison
from gradkit.compare.comparison import compare as compare
from gradkit.compare.folders import Run as Run
from gradkit.compare.folders import Skipped as Skipped
from gradkit.compare.folders import load_runs as load_runs
