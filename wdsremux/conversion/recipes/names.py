"""How recipes are named on the command line. Light to import."""

from __future__ import annotations

import re

BUILT_IN = re.compile(r"(?:(resize|square):([1-9]\d{0,4})|(copy))")
COPY = "copy"  #: the one of them that leaves JPEGs as they are
SIZED = re.compile(r"(?:resize|square):[1-9]\d{0,4}")  #: those of the built-in recipes that resize
USERS = re.compile(r"(?P<home>.+\.py|[A-Za-z_][\w.]*):(?P<function>[A-Za-z_][\w.]*)")
