"""Errors a caller can act on: one class per room, all under :class:`FlexPieError`.

The command line prints these as one sentence and exits with code 2. Any other exception is a defect of this
package and is shown with its traceback.
"""

_HEAD, _TAIL = 1500, 400
"""A longer sentence keeps so many letters at its beginning and end: files can bring names of megabytes."""


def escaped(text: str) -> str:
    """A text in one line that a terminal can show: what is no letter or sign is written as Python would."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in text)


def count_of(number: int, noun: str) -> str:
    """A number and what it counts, for a sentence.

    >>> count_of(1, "rank"), count_of(3, "rank")
    ('1 rank', '3 ranks')
    """
    return f"{number} {noun}" + ("" if number == 1 else "s")


class FlexPieError(Exception):
    r"""Base of every error that names what is wrong, where, and what to do about it.

    Its text is one line that a terminal can show, whatever the names are that a file has brought into it.

    >>> print(FlexPieError("input 'x\n\x1b[31m' is unknown"))
    input 'x\n\x1b[31m' is unknown
    """

    def __str__(self) -> str:
        text = escaped(super().__str__())
        return text if len(text) <= _HEAD + _TAIL else f"{text[:_HEAD]} ... {text[-_TAIL:]}"


class ModelError(FlexPieError):
    """A model file cannot be read, or holds something that cannot be run."""


class LayoutError(FlexPieError):
    """A layout does not exist or cannot be applied to a value."""


class PlanError(FlexPieError):
    """A plan does not fit the model, the ranks, or the rules of layouts."""


class ProgramError(FlexPieError):
    """The programs of a job break a promise that the executor relies on."""


class DataError(FlexPieError):
    """An input or output file cannot be used with this model."""


class CacheError(FlexPieError):
    """A cache folder cannot be read or written."""


class TransportError(FlexPieError):
    """A rank did not answer in time, or MPI cannot be started."""


class TestbedError(FlexPieError):
    """A testbed file cannot be read, or describes boards or links that cannot exist."""

    __test__ = False  # not a test class, whatever pytest reads into the name


class CostError(FlexPieError):
    """Traces or a cost file cannot be read, or do not hold what a cost model needs."""


class SuiteError(FlexPieError):
    """A suite or a file of results cannot be read or written, or asks for what cannot be measured."""


class EmulationError(FlexPieError):
    """Boards cannot be emulated on this machine, or what was built is not what the testbed says."""


class PlacementError(FlexPieError):
    """Stages cannot be placed on boards, or what is said of them does not fit together."""


class ReportError(FlexPieError):
    """A picture or a table cannot be made of what was given."""
