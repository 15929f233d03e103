"""PDF files for tests, written by hand: text at places, nothing else."""

from __future__ import annotations

from collections.abc import Sequence

Run = tuple[float, float, float, str]
"""Left, bottom, size, text; in points."""


def pdf(pages: Sequence[Sequence[Run]], *, title: str | None = None) -> bytes:
    """Return a PDF file with these runs of text on its pages."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, runs in enumerate(pages):
        content = "".join(
            f"BT /F1 {size} Tf {x} {y} Td ({text}) Tj ET\n" for x, y, size, text in runs
        ).encode()
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents {5 + 2 * number} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>".encode()
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content))
    objects.append(
        f"<< /Title ({title}) /CreationDate (D:20260312090000Z) >>".encode() if title else b"<< >>"
    )
    data, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(data)
    entries = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    data += b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, entries)
    trailer = b"trailer\n<< /Size %d /Root 1 0 R /Info %d 0 R >>\nstartxref\n%d\n%%%%EOF\n"
    return data + trailer % (len(objects) + 1, len(objects), start)


REPORT: list[list[Run]] = [
    [
        (50, 750, 20, "Annual report"),
        (50, 700, 14, "Results"),
        (50, 680, 10, "Orla Freight carried 9 million tonnes."),
        (50, 668, 10, "Revenue rose."),
        (50, 620, 10, "EUR million"),
        (250, 620, 10, "2025"),
        (350, 620, 10, "2024"),
        (50, 608, 10, "Revenue"),
        (250, 608, 10, "412"),
        (350, 608, 10, "388"),
    ],
    [
        (50, 750, 10, "Net debt fell to 64."),
        (50, 700, 14, "People"),
        (50, 680, 10, "Orla employs 6,100 people."),
    ],
]
