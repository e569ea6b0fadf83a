"""What is proved about the close approach of two atoms with a trained potential, and what a search finds.

docs/certificate.md has the theorems, their assumptions and proofs.
"""

from gmnn.certificate.adversary import Search, search
from gmnn.certificate.certificate import Certificate, certify

__all__ = ["Certificate", "Search", "certify", "search"]
