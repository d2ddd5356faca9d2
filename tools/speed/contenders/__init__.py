"""The contenders: rbench, fast and exact, and the libraries, one file each."""

from tools.speed.contenders.adversarial_library import ADVERSARIAL_LIBRARY
from tools.speed.contenders.base import Contender, ContenderError, Library, Outcome
from tools.speed.contenders.foolbox import FOOLBOX
from tools.speed.contenders.ours import EXACT, OURS
from tools.speed.contenders.pyautoattack import PYAUTOATTACK
from tools.speed.contenders.torchattacks import TORCHATTACKS

CONTENDERS: dict[str, Contender] = {
    contender.name: contender
    for contender in (OURS, EXACT, PYAUTOATTACK, TORCHATTACKS, FOOLBOX, ADVERSARIAL_LIBRARY)
}
"""By name, in the order of tables; the first is the baseline."""

__all__ = ["CONTENDERS", "Contender", "ContenderError", "Library", "Outcome"]
