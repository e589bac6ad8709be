"""The Nottingham mitotic score by the microscope's field: a published table, not a formula."""

from __future__ import annotations

import math

#: Where the table is from.
SOURCE = (
    "College of American Pathologists, Protocol for the Examination of Resection Specimens from Patients "
    "with Invasive Carcinoma of the Breast, February 2019, Table 1 (score categories according to field "
    "diameter and mitotic count)"
)
#: Field diameter in hundredths of a millimetre: most mitoses per 10 fields for scores 1 and 2.
_TABLE = {
    40: (4, 9), 41: (4, 9), 42: (5, 10), 43: (5, 10), 44: (5, 11), 45: (5, 11), 46: (6, 12), 47: (6, 12),
    48: (6, 13), 49: (6, 13), 50: (7, 14), 51: (7, 14), 52: (7, 15), 53: (8, 16), 54: (8, 16), 55: (8, 17),
    56: (8, 17), 57: (9, 18), 58: (9, 19), 59: (9, 19), 60: (10, 20), 61: (10, 21), 62: (11, 22),
    63: (11, 22), 64: (11, 23), 65: (12, 24), 66: (12, 24), 67: (12, 25), 68: (13, 26), 69: (13, 27),
}  # fmt: skip
#: Field diameters (mm) that the table knows.
SMALLEST_MM, LARGEST_MM = min(_TABLE) / 100, max(_TABLE) / 100


def field_area_mm2(field_diameter_mm: float) -> float:
    """Area of one high-power field."""
    return math.pi * field_diameter_mm**2 / 4


def per_ten_fields(per_mm2: float, field_diameter_mm: float) -> float:
    """Mitoses in 10 high-power fields at this density."""
    return per_mm2 * 10 * field_area_mm2(field_diameter_mm)


def mitotic_score(per_10_hpf: float, field_diameter_mm: float) -> int | None:
    """Score 1, 2 or 3 of a count per 10 fields, rounded half up to whole mitoses.

    None for a field that the table does not know; others are taken to the nearest 0.01 mm. (:data:`SOURCE`)
    """
    limits = _TABLE.get(math.floor(field_diameter_mm * 100 + 0.5))
    if limits is None:
        return None
    count = math.floor(per_10_hpf + 0.5)
    return 1 + sum(count > limit for limit in limits)
