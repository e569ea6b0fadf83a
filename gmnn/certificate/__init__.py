"""Theorems on the close approach of two atoms with a trained potential, and a search for counterexamples.

docs/certificate.md has the theorems, their assumptions and proofs.
"""

from gmnn.certificate.adversary import Search, search
from gmnn.certificate.certificate import Certificate, certify

__all__ = ["Certificate", "Search", "certify", "search"]
