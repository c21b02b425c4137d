"""Every error that wdsremux raises.

    WdsremuxError            something the user can act on: one sentence saying what, where, what was got, what to do
    ├── OptionError          wrong by the arguments alone; the command line exits with 2
    ├── SourceError          the source cannot be found, read, or understood
    ├── OutputError          OUT cannot be used: locked, foreign files, begun with other options
    ├── FormatError          a file of a converted split is missing, damaged, or not what the manifest says
    │   └── VersionError     it is of a version that this wdsremux does not know
    ├── ConversionError      a conversion began and cannot go on; running it again resumes
    │   ├── RejectError      more rows could not be baked than --max-rejects allows
    │   ├── RecipeError      a user's recipe cannot be loaded, raised, or returned what cannot be baked
    │   ├── SpaceError       the disk is too small for what is still to come
    │   └── WorkerError      a worker process failed or died
    ├── ImageError           bytes that are no image we can decode; a conversion turns it into a reject
    ├── StateError           a loader state does not belong to this loader
    └── BackendError         a decoding backend is missing or failed

A row that cannot be baked is no error but a value (`wdsremux.conversion.recipes.base.Reject`).
"""


def printable(text: str) -> str:
    """A text on one line, without control characters: a path or a class name that it quotes may hold any."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def one_line(error: BaseException, longest: int = 500) -> str:
    """What an error of somebody else's says, to stand within a sentence of ours; its kind, where it says nothing."""
    text = " ".join(str(error).split()).rstrip(".")
    return (text if len(text) <= longest else f"{text[:longest]} …") or type(error).__name__


def first_line(error: BaseException) -> str:
    """The same of an error that goes on with a stack or with advice: only its first line that says something."""
    lines = (line.strip().rstrip(".") for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)


def install_command(extra: str) -> str:
    """The command that installs an optional part of this package, to stand within an error.

    It is run in a checkout: the name wdsremux is not registered on PyPI, where it may one day be somebody else's.
    """
    return f'`pip install ".[{extra}]"` in a checkout of wdsremux'


class WdsremuxError(Exception):
    """Base class: catch this to catch everything that wdsremux raises on purpose."""

    exit_code = 1


class ConversionWarning(UserWarning):
    """Something to know of a conversion that goes on: the category under which Python's `warnings` has it."""


class OptionError(WdsremuxError):
    """An option or argument is wrong by itself, whatever the files look like."""

    exit_code = 2


class SourceError(WdsremuxError):
    """The source cannot be found, read, or understood."""


class OutputError(WdsremuxError):
    """The output folder cannot be used."""


class FormatError(WdsremuxError):
    """A file of a converted split is missing, damaged, or differs from its manifest.

    Args:
        what: is wrong, such as "is missing".
        subject: the file of which that is said, in front of it; None: `what` names it itself.
    """

    def __init__(self, what: str, subject: object = None) -> None:
        super().__init__(what if subject is None else f"{subject} {what}")
        self.what = what


class VersionError(FormatError):
    """A split was written in a version of the format that this wdsremux does not know."""


class ConversionError(WdsremuxError):
    """A conversion had to stop; what is finished stays, and the same command goes on from there."""


class RejectError(ConversionError):
    """More rows could not be baked than the user allows."""


class RecipeError(ConversionError):
    """A recipe of the user's cannot be loaded, raised, or returned something that is no batch of images."""


class SpaceError(ConversionError):
    """What is still to be written does not fit on the disk."""


class WorkerError(ConversionError):
    """A worker process raised or died."""


class ImageError(WdsremuxError):
    """Bytes cannot be decoded to pixels, or pixels cannot be encoded. The text is the reason, the same in every run."""


class StateError(WdsremuxError):
    """A loader state was made for another data set or another order."""


class BackendError(WdsremuxError):
    """A backend is not installed, or failed on a batch."""
