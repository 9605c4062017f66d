"""The faults, one file each."""

from chaos.faults.bandwidth import Bandwidth as Bandwidth
from chaos.faults.base import Fault as Fault
from chaos.faults.base import Kind as Kind
from chaos.faults.cut import Cut as Cut
from chaos.faults.delay import Delay as Delay
from chaos.faults.duplicate import Duplicate as Duplicate
from chaos.faults.flip import Flip as Flip
from chaos.faults.half_open import HalfOpen as HalfOpen
from chaos.faults.kill import Kill as Kill
from chaos.faults.lies import Lies as Lies
from chaos.faults.lose_reply import LoseReply as LoseReply
from chaos.faults.loss import Loss as Loss
from chaos.faults.no_memory import NoMemory as NoMemory
from chaos.faults.part import Part as Part
from chaos.faults.pause import Pause as Pause
from chaos.faults.reorder import Reorder as Reorder
from chaos.faults.reset import Reset as Reset
from chaos.faults.skew import Skew as Skew
from chaos.faults.slice import Slice as Slice
from chaos.faults.slow import Slow as Slow
from chaos.faults.stop import Stop as Stop
