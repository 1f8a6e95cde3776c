"""Comparison of runs: what differs in their configurations, metrics over seeds, findings; imports no torch.

`gradkit.runs.folders` finds and reads run folders, `gradkit.compare.comparison` compares them,
`python -m gradkit.compare` is the command.
"""

from gradkit.compare.arms import Arm as Arm
from gradkit.compare.comparison import Comparison as Comparison
from gradkit.compare.comparison import compare as compare
from gradkit.runs.folders import Run as Run
from gradkit.runs.folders import Skipped as Skipped
from gradkit.runs.folders import load_runs as load_runs
