"""Colin27: one person's brain, for digital twins; MNI152 is an average of many, whose images show less.

The T1 is the mean of 27 scans of one man, without skull, as Debian's package mricron-data has it. No tissue maps come
with it: they are told apart by brightness alone. The pipeline shares no atlas with them, but it looks at the same T1's
brightness, which hides what both take for another tissue.

Source: Holmes, Hoge, Collins, Woods, Toga and Evans, Enhancement of MR images using registration for signal averaging,
Journal of Computer Assisted Tomography 22 (1998) 324-333.
"""

from __future__ import annotations

from pathlib import Path

from engine import Anatomy, InputError
from morph.ants import segment_by_brightness
from morph.volume import read_volume

PLACE = Path("/usr/share/mricron/templates/ch2bet.nii.gz")
"""Where the package puts it: 181 x 217 x 181 voxels of 1 mm in the world of MNI."""


def load_colin27(path: Path = PLACE) -> Anatomy:
    """Read the brain and tell its tissue apart, in half a minute.

    Args:
        path: of the T1 without skull.

    Raises:
        InputError: it is not there, or is no image.
    """
    if not path.exists():
        raise InputError(f"brain=colin27 needs {path}, which is in Debian's package mricron-data")
    t1 = read_volume(path)
    csf, gray, white = segment_by_brightness(t1)
    return Anatomy("colin27", t1.array, white, gray, csf, t1.affine)
