"""Is a converted split still what its manifest says? verify.py asks, the others look."""

from wdsremux.conversion.verification.verify import Damage, verify

__all__ = ["Damage", "verify"]
