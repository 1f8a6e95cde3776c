"""What the observer saw, as frozen values of plain numbers and text; imports no torch and nothing of gradkit.

One class per kind of record. A rule names the kind it reads (`Rule[Window]`) and is called only when one arrives, so a
kind nobody asks for costs nothing. A new kind subclasses `Record` in a file of its own here and is imported from there;
nothing else has to change.
"""

from gradkit.records.graphs import CutPath as CutPath
from gradkit.records.graphs import GraphCensus as GraphCensus
from gradkit.records.graphs import HiddenWrite as HiddenWrite
from gradkit.records.graphs import Retention as Retention
from gradkit.records.membership import Membership as Membership
from gradkit.records.modes import EvaluationPass as EvaluationPass
from gradkit.records.modes import ModeStep as ModeStep
from gradkit.records.places import Location as Location
from gradkit.records.places import ParameterInfo as ParameterInfo
from gradkit.records.places import Statement as Statement
from gradkit.records.record import Record as Record
from gradkit.records.run import Crash as Crash
from gradkit.records.run import Gap as Gap
from gradkit.records.run import RunInfo as RunInfo
from gradkit.records.updates import FrozenUpdate as FrozenUpdate
from gradkit.records.updates import ScheduleStep as ScheduleStep
from gradkit.records.updates import Stillness as Stillness
from gradkit.records.updates import UpdateSizes as UpdateSizes
from gradkit.records.windows import Accumulation as Accumulation
from gradkit.records.windows import DeepValues as DeepValues
from gradkit.records.windows import Pass as Pass
from gradkit.records.windows import Window as Window
