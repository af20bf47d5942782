"""Cut the font of the site's formulas out of TeX Gyre Pagella Math: python -m tools.math_font texgyrepagella-math.otf

The whole font is in Debian's package fonts-texgyre-math (2 MB; GUST Font License). The part is what formulas of a course need:
ASCII, Greek, italics, and common signs; ssty has the glyphs of subscripts, dtls letters without dots. It is the same, byte for
byte, with the font of 2018-06-21 and fonttools 4.68. Needs fonttools, which matplotlib brings, and brotli.
"""
import sys

from fontTools.subset import main

from tools.notebooks import ROOT

FILE = ROOT / "docs" / "_static" / "math.woff2"
TEXT = "20-7E,A0,AC,B1,B7,D7,F7,131,237,2C6,2DC,391-3C9,3D1,3D5,3F5,2010-2014,2022,2026,2032-2033,2061-2064"
SIGNS = ("210E,2113,2190-2193,21A6,21D2,2200,2202-2203,2205-2209,220B-220C,220F,2211-2212,2215-221A,221D-221E,2223,2225,"
         "2227-222B,223C-223D,2248,2260-2261,2264-2265,226A-226B,2282-2287,2295,2297,22C5,2308-230B,27E8-27E9")
ITALICS = "1D434-1D467,1D6A4-1D6A5,1D6E2-1D71B"

if __name__ == "__main__":
    main([sys.argv[1], f"--unicodes={TEXT},{SIGNS},{ITALICS}", "--layout-features=ssty,dtls", "--flavor=woff2",
          f"--output-file={FILE}"])
