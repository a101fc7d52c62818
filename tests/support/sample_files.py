"""Files as people send them, generated: a scanned letter, a photo. Real ones, of about the requested size."""

from __future__ import annotations

import random
import struct


def make_scanned_pdf(size: int, *, pages: int = 1) -> bytes:
    """Pages that consist of one incompressible picture each. `size` is in bytes."""
    scan = random.Random(1).randbytes(size // pages)
    kids = b" ".join(b"%d 0 R" % (3 + 3 * page) for page in range(pages))
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, pages)]
    for page in range(pages):
        objects += _scanned_page(3 + 3 * page, scan)
    out, places = b"%PDF-1.4\n", []
    for number, one in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, one)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    count = len(objects) + 1
    trailer = b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (count, len(out))
    return out + b"xref\n0 %d\n0000000000 65535 f \n" % count + table + trailer


def _scanned_page(number: int, scan: bytes) -> list[bytes]:
    """A page, its picture and what puts it there; numbered one after the other."""
    resources = b"<</XObject<</S %d 0 R>>>>" % (number + 1)
    draws = b"q 600 0 0 800 0 0 cm /S Do Q\n"
    width, height = 1000, len(scan) // 1000
    return [
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Resources%s/Contents %d 0 R>>" % (resources, number + 2),
        b"<</Type/XObject/Subtype/Image/Width %d/Height %d/ColorSpace/DeviceGray/BitsPerComponent 8/Length %d>>"
        b"stream\n%s\nendstream" % (width, height, len(scan), scan),
        b"<</Length %d>>stream\n%s\nendstream" % (len(draws), draws),
    ]


DETAIL_COEFFICIENTS = 9
"""Coefficients of each block of a photo: a detailed one of 12 megapixels has 6 MB then, as from a phone."""


def make_photo(width: int = 4000, height: int = 3000) -> bytes:
    """A JPEG full of detail, in colour, of about 0.52 bytes a pixel. Both sides in pixels, multiples of 8.

    What a JPEG holds is numbers for each block of 8 by 8 points. Its own code table makes each of them one byte, so
    that drawn numbers are a picture at once: 0 for the mean (no difference), 00xxxxxx for a detail, 0x40 for the end.
    """
    blocks = 3 * (width // 8) * (height // 8)
    step = DETAIL_COEFFICIENTS + 2
    scan = bytearray(random.Random(2).randbytes(blocks * step).translate(bytes(byte & 0x3F for byte in range(256))))
    scan[0::step] = bytes(blocks)
    scan[step - 1 :: step] = b"\x40" * blocks
    quantized = b"\x00" + bytes(64 * [2])
    size = struct.pack(">BHHB", 8, height, width, 3) + b"\x01\x11\x00\x02\x11\x00\x03\x11\x00"
    mean = b"\x00" + bytes([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]) + b"\x00"
    detail = b"\x10" + bytes([0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]) + b"\x06\x00"
    segments = [
        (0xE0, b"JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"),
        (0xDB, quantized),
        (0xC0, size),
        (0xC4, mean),
        (0xC4, detail),
        (0xDA, b"\x03\x01\x00\x02\x00\x03\x00\x00\x3f\x00"),
    ]
    head = b"".join(struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body for marker, body in segments)
    return b"\xff\xd8" + head + bytes(scan) + b"\xff\xd9"
