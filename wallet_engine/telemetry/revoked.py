"""Certificates that an authority has taken back: its list (RFC 5280, CRL) stands behind it in the same file.

A file of authorities without any list is believed as it is. One that has a list is held to it: then every authority in
the file needs one, for OpenSSL refuses whom no list speaks of.
"""

import ssl
from pathlib import Path
from typing import Final

_LIST_BEGINS: Final = b"-----BEGIN X509 CRL-----"
_LIST_ENDS: Final = b"-----END X509 CRL-----\n"


def believe(context: ssl.SSLContext, ca: Path) -> None:
    """Believe the authorities in the file, but for what they took back. Raises OSError, as `ssl.SSLError` is."""
    context.load_verify_locations(ca)
    hold_to_list(context, ca)


def hold_to_list(context: ssl.SSLContext, ca: Path) -> None:
    """The second half of `believe`, for authorities that are loaded already."""
    if _LIST_BEGINS in ca.read_bytes():
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def revoked_serials(ca: Path) -> frozenset[int]:
    """Serial numbers on all lists in the file. Raises OSError and ValueError."""
    lists = [
        _LIST_BEGINS + part.partition(_LIST_ENDS)[0] + _LIST_ENDS
        for part in ca.read_bytes().split(_LIST_BEGINS)[1:]
    ]
    if not lists:
        return frozenset()
    # Loaded only where it is needed: it costs a tenth of a second.
    from cryptography import x509

    return frozenset(row.serial_number for text in lists for row in x509.load_pem_x509_crl(text))
