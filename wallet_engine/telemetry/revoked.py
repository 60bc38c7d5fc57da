"""Revoked certificates: an authority's revocation list (RFC 5280, CRL) follows its certificate in the same file.

A file without any list is trusted as it is. When a file has a list, revocation is checked. Then every authority in
the file needs a list: OpenSSL refuses certificates of an authority without one.
"""

import ssl
from pathlib import Path
from typing import Final

_LIST_BEGINS: Final = b"-----BEGIN X509 CRL-----"
_LIST_ENDS: Final = b"-----END X509 CRL-----\n"


def believe(context: ssl.SSLContext, ca: Path) -> None:
    """Trust the authorities in the file, except for revoked certificates. Raises OSError (`ssl.SSLError` is one)."""
    context.load_verify_locations(ca)
    hold_to_list(context, ca)


def hold_to_list(context: ssl.SSLContext, ca: Path) -> None:
    """Check revocation if the file has a list. Its authorities must be loaded already, which loads the lists too."""
    if _LIST_BEGINS in ca.read_bytes():
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def revoked_serials(ca: Path) -> frozenset[int]:
    """The serial numbers of all lists in the file. Raises OSError and ValueError."""
    return frozenset(serial for _, serial in revoked_in(ca))


def revoked_in(ca: Path) -> frozenset[tuple[bytes, int]]:
    """(name of the authority in DER, serial number) of all lists in the file. Raises OSError and ValueError."""
    lists = [
        _LIST_BEGINS + part.partition(_LIST_ENDS)[0] + _LIST_ENDS
        for part in ca.read_bytes().split(_LIST_BEGINS)[1:]
    ]
    if not lists:
        return frozenset()
    # Imported only when needed: that takes 0.1 s.
    from cryptography import x509

    loaded = map(x509.load_pem_x509_crl, lists)
    return frozenset((each.issuer.public_bytes(), row.serial_number) for each in loaded for row in each)
