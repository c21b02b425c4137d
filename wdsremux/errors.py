"""Every error that wdsremux raises.

    WdsremuxError            something the user can act on: says what is wrong, where, what was got, and what to do
    ├── OptionError          an option or argument is invalid; the command line exits with 2
    ├── SourceError          the source cannot be found, read, or understood
    ├── OutputError          the output folder cannot be used: locked, foreign files, started with other options
    ├── FormatError          a file of a converted split is missing, damaged, or not what the manifest says
    │   └── VersionError     it has a version that this release of wdsremux does not read
    ├── ConversionError      a conversion had to stop; running it again resumes
    │   ├── RejectError      more rows could not be converted than --max-rejects allows
    │   ├── RecipeError      a user's recipe cannot be loaded, raised an error, or returned an invalid result
    │   ├── SpaceError       the disk is too small for the rest of the conversion
    │   └── WorkerError      a worker process failed or died
    ├── ImageError           bytes that cannot be decoded as an image; a conversion records a reject instead
    ├── StateError           a loader state does not belong to this loader
    └── BackendError         a backend or an engine is missing or failed

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


def counted(number: int, noun: str, nouns: str | None = None) -> str:
    """A number and its noun: "1 row", "2,000 rows"; `nouns` is the plural where it is not made with an s."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def install_command(extra: str) -> str:
    """The command that installs an optional part of this package, to stand within an error.

    It is run in a checkout: the name wdsremux is not registered on PyPI, where it may one day be somebody else's.
    """
    return f'`pip install ".[{extra}]"` in a checkout of wdsremux'


class WdsremuxError(Exception):
    """Base class of all errors that wdsremux raises on purpose."""

    exit_code = 1


class ConversionWarning(UserWarning):
    """A warning about a conversion that continues: the category of these warnings in Python's `warnings`."""


class OptionError(WdsremuxError):
    """An option or argument is invalid, whatever the files contain."""

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
    """A split was written in a version of the format that this release of wdsremux does not read."""


class ConversionError(WdsremuxError):
    """A conversion had to stop. Finished work is kept, and the same command resumes it."""


class RejectError(ConversionError):
    """More rows could not be converted than `max_rejects` allows."""


class RecipeError(ConversionError):
    """A user's recipe cannot be loaded, raised an error, or returned something that is not a batch of images."""


class SpaceError(ConversionError):
    """The disk is too small for the rest of the conversion."""


class WorkerError(ConversionError):
    """A worker process raised an error or died."""


class ImageError(WdsremuxError):
    """Bytes cannot be decoded to pixels, or pixels cannot be encoded. The text is the reason, the same in every run."""


class StateError(WdsremuxError):
    """A loader state was saved for another data set or another order."""


class BackendError(WdsremuxError):
    """A backend or an engine is not installed, or a backend failed on a batch."""
