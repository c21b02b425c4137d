"""Files that Pillow cannot write: put together by hand, cut, marked, or made to say that they are larger."""

from __future__ import annotations

import base64
import struct
import tarfile
import zlib

# Written by libjpeg-turbo 3.2, 24x16 px, a ramp in each component: red left to right, green top to bottom, blue right
# to left. Arithmetic coding is SOF9 and SOF10, 12 bits SOF1 and SOF2, lossless SOF3; YCCK is baseline, marked by Adobe.
_WRITTEN = {
    "arithmetic": (
        "|JeWF01!$>Nk#wx0RR9200961|JwjV01XKW3knDg3knMk4h;_zAQcl55)&sJ9v2`kDKRiEDJ?8BI!Zn>HbyrrEkIX6ModmpQ&KWMT47pHU"
        "`kO^PygEhLjevB4iga*CKVMXPc<zyPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPf!2J01*fP5C9kh0U"
        "`hb5di}c0sqVZ3IGrg1pyEd1^?Or3<CiG0ucid06zf#0BV`55W&>Xtf6&DyCIo6?Kscti=wtTovFpa&B9?`X0Hm^f>V>1R^b2H"
    ),
    "arithmetic-progressive": (
        "|JeWF01!$>Nk#wx0RR9200961|JwjV01XKW3knDg3knMk4h;_zAQcl55)&sJ9v2`kDKRiEDJ?8BI!Zn>HbyrrEkIX6ModmpQ&KWMT47pHU"
        "`kO^PygEhLjevB4iga*CKVMXPc<zyPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPf!2K01*fP5C9kh0U"
        "`hb5di}c0sqVZ1^^HN5dYc$3<CiG0uTcb00060+iLSEA^eK6V3VUV|I7dc5C#9*00;pA009L868q{$fd9+@1Q7-"
        "Q+5iXv0|5a)0ToSJr<DK900a>Q|Jncu0RjO5KLI#+TI^W=%m4%s1^?Or2mt{A20sG8|I7dc5C#9*00;pA00BQCOk=zV|Jncy0|5X600RI3"
        "01&p||I7dc5e5I+00;pC0RcY{)f{U7%m4%t1^?Or2mt~C0Y4C@Thsr{00a;P|Jncu0RaF3KM)@gp#Rw"
    ),
    "twelve-bit": (
        "|JeWF01!$>Nk#wx0RR9200961|JwjV01XKW3knDg3knMk4h;_zAQcl55)&sJ9v2`kDKRiEDJ?8BI!Zn>HbyrrEkIX6ModmpQ&KWMT47pHU"
        "`kO^PygEhLjevB4iga*CKVMXPc<zyPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPf!2B01*rT5C9kh0U"
        "`hb5di}c0sq7R761VO0RR910000000000000UA2>-+Y8V~>h1pxp60000000000000072_-"
        "W_QUAmM76AbP0RR910000000000000UI3ID_ZBoP1r0|f~H000000000000009BmoE}G+_e-"
        "2SGwnQlX;%+5ij#0RRFK0}%i}06EF~ZdC`&jWnOO<xqUcPYL^ORR_$CG@rKRP<+VJlPG?<wLG&B0e=}ps=c)X5TCZ?P<+USB%ikBP<+UN0"
        "`RZb8r~H5R)!OSW>E;(EA>VX|Je"
    ),
    "twelve-bit-progressive": (
        "|JeWF01!$>Nk#wx0RR9200961|JwjV01XKW3knDg3knMk4h;_zAQcl55)&sJ9v2`kDKRiEDJ?8BI!Zn>HbyrrEkIX6ModmpQ&KWMT47pHU"
        "`kO^PygEhLjevB4iga*CKVMXPc<zyPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPf!2C01*rT5C9kh0U"
        "`hb5di}c0sq7R761VO0RR910000000000000R92mizX6#)SO000000000000000000OH|Jncy0|5X65CaeZ00B9))bmYBAIwRKq6LNj!~h"
        "l$00RI300000000000000000jsC+5iXv0RRC70$(>5&BgO^eB56*7tPQA!~h!+009I80000000000000002mk^jp#~*0|Jncu0RsU6KLH="
        "fPEy*zNlil~wg1Eb8xa5k0R;d6000000000000007BLfH}Gg1HA00;pB0RcY&xks+qIxwEOs*)f7!~ho%00RL400000000000000000ASR"
        "|Jncu0RaF8KLSv}Lj?>JFi^om5C6mf6c7Ob000000000000000001EW+5iXv0RRC%AxJ_Hgn$3q01N{G00IC50000G{4f8+02mPf0s{a50"
        "000000000000000YRbg|Jncu0RsU6KM<)HXh;9V02dJe0|5X40000000000000000pVf)+5iXv0s#R(5UwwEpZ~-"
        "F6%YXd0000000000000000001?|Jncu0RaF3KM;(@V=<V_XaCs"
    ),
    "lossless": (
        "|JeWT01iQ9Z(?NtWB>pF0095P01*fP5C9khQV{@05dcCF0RO}Q7ytnQ0RaI30000000000000C41qcWK+5ij#QUFH)LI42(0O$UH_w_|oR"
        "Yg=)MO0NqR8>V(RYg=)MO0NqR8>V(RYg=)MO0Nqv?WDURYg=)MO0NqR8>V(RYg=)MO0NqR8>V(RYg=)MO0Nqv?WDURYg=)MO0NqR8>V(RY"
        "g=)MO0NqR8>V(RYg=)MO0Nqv?WDURYg=)MO0NqR8>V(RYg=)MO0NqR8>V(RYg=)MO0Nqv?WDURYg=)MO0NqR8>V(RYg=)MO0NqR8>V(RYg"
        "=)MO0Nqv?WDURYg=)MO0NqR8>V(RYg=)MO0NqR8>V(RYg=)MO0Nqv?WDURYg=)MO0NqR8>V(RYg=)MO0NqR8>V(RYg=)MO0Nqv?WDURYg="
        ")MO0NqR8>V(RYg=)MO0NqR8>V(RYg=)MO0Nqv?WDURYg=)MO0NqR8>V(RYg=)MO0NqR8>V(RYg=)MO0Nqv?WDURYg=)MO0NqR8>V(RYg=)"
        "MO0NqR8>V(RYg=)MO0Nqv?WDURYg=)MO0NqR8>V(RYg=)MO0NqR8>V(RYg=)MO0Nqv?WDURYg=)MO0NqR8>V(RYg=)MO0NqR8>V(RYg=)M"
        "O0Nqv?WDURYg=)MO0NqR8>V(RYg=)MO0NqR8>V(RYg=)MO0Nqv?WDURYg=)MO0NqR8>V(RYg=)MO0NqR8>V(RYg=)MO0Nqv?WDURYg=)MO"
        "0NqR8>V(RYg=)MO0NqR8>V(RYg=)MO0Nqv?WDURYg=)MO0NqR8>V(RYg=)MO0NqR8>V(RYg=)MO0Nq|Je"
    ),
    "lossless-grey": (
        "|JeWF01!$>Nk#wx0RR9200961|HA+a2mlZO7y$th0RO}Q761VO0RR910000000000000C42>;pu2mt{A0RRBc>Qa=YDN0h5r722Ml%*<Cl"
        "%*+3Qk11BN>Y@iDN>ZBDN0h5r722Ml%*+3l%*+3Qk11BN>Y@iDN0nODN0h5r722Ml%*+3Ql%+MQk11BN>Y@iDN0h6DN0h5r722Ml%*+3Qk"
        "1DmQk11BN>Y@iDN0h5rAktir722Ml%*+3Qk11CQk11BN>Y@iDN0h5r72RBr722Ml%*+3Qk11BN|dE3N>Y@iDN0h5r722Or722Ml%*+3Qk1"
        "1BN>ZgMN>Y@iDN0h5r722Ml_^S6l%*+3Qk11BN>Y@mN>Y@iDN0h5r722Ml%;?F*#"
    ),
    "lossless-twelve-bit": (
        "|JeWT01iQ9Z(?NtWB>pF0095P01*rT5C9khQV{@05dcCF0RO}Q7ytnQ0RaI30000000000000O82@DJW+5ij#QUFH)LI42(0O$Vz=l=lr{"
        "{U4*Ra8|~MO9Q)RYg@)RaHe*R8>_)Ra8|~MO9Q)RYg@)RaHe*R8>_)Ra8|~MO9Q)RYg@)RaHe>L?u*JRYg@)RaHe*R8>_)Ra8|~MO9Q)RY"
        "g@)RaHe*R8>_)Ra8|~MO9Q)RYg@)RaHe*R8>_)Ra8~9LRCdoR8>_)Ra8|~MO9Q)RYg@)RaHe*R8>_)Ra8|~MO9Q)RYg@)RaHe*R8>_)Ra8"
        "|~MO9Q)RYhAwB~(>aMO9Q)RYg@)RaHe*R8>_)Ra8|~MO9Q)RYg@)RaHe*R8>_)Ra8|~MO9Q)RYg@)RaHe*R8_P>RYg@)RaHe*R8>_)Ra8|"
        "~MO9Q)RYg@)RaHe*R8>_)Ra8|~MO9Q)RYg@)RaHe*R8>_)Ra8|~MO#EAR8>_)Ra8|~MO9Q)RYg@)RaHe*R8>_)Ra8|~MO9Q)RYg@)RaHe*"
        "R8>_)Ra8|~MO9Q)RYg@)RkT7?MO9Q)RYg@)RaHe*R8>_)Ra8|~MO9Q)RYg@)RaHe*R8>_)Ra8|~MO9Q)RYg@)RaHe*R8>_)TSO&PRaHe*R"
        "8>_)Ra8|~MO9Q)RYg@)RaHe*R8>_)Ra8|~MO9Q)RYg@)RaHe*R8>_)Ra8|~MO9Q)v_e%yRa8|~MO9Q)RYg@)RaHe*R8>_)Ra8|~MO9Q)RY"
        "g@)RaHe*R8>_)Ra8|~MO9Q)RYg@)RaHe>L?u*JRYg@)RaHe*R8>_)Ra8|~MO9Q)RYg@)RaHe*R8>_)Ra8|~MO9Q)RYg@)RaHe*R8>_)Ra8"
        "~9LRCdoR8>_)Ra8|~MO9Q)RYg@)RaHe*R8>_)Ra8|~MO9Q)RYg@)RaHe*R8>_)Ra8|~MO9Q)RYhAwB~(>aMO9Q)RYg@)RaHe*R8>_)Ra8|"
        "~MO9Q)RYg@)RaHe*R8>_)Ra8|~MO9Q)RYg@)RaHe*R8_P>RYg@)RaHe*R8>_)Ra8|~MO9Q)RYg@)RaHe*R8>_)Ra8|~MO9Q)RYg@)RaHe*"
        "R8>_)Ra8|~MO#EAR8>_)Ra8|~MO9Q)RYg@)RaHe*R8>_)Ra8|~MO9Q)RYg@)RaHe*R8>_)Ra8|~MO9Q)RYg@)RkT7?MO9Q)RYg@)RaHe*R"
        "8>_)Ra8|~MO9Q)RYg@)RaHe*R8>_)Ra8|~MO9Q)RYg@)RaHe*R8>_)TSO&PRaHe*R8>_)Ra8|~MO9Q)RYg@)RaHe*R8>_)Ra8|~MO9Q)RY"
        "g@)RaHe*R8>_)Ra8|~MO9Q)|Je"
    ),
    "ycck": (
        "|JeWT01iQ9Z(?NtWB>pF00RHp07C!`2?`4e2n`Dg3l0tq4-"
        "+626A}^=CmbFZATB8}FfJ)AEHgSvJ~K8(H!LkcS3yQhPEu1+GCo>iT2Nq0QBqI;+W<oW4h{|z5fdgA6(&zLEj3S1Pft%zPft%zPft%zPft"
        "%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%z|G)qg2mlZO7z6<#00I#K0}%lPA^`uy02lxO0|5a50000000000000001qK8M|HJ?"
        "p5C8!M000000000000000000986JcWi!~him0RaF20000000000000001qT1b02&bh0s{d70000000000000001O*{6A_M>001gBJ00I#M"
        "5d;7LKLDgr$3|rwbWJGZqcV;<3XVr8LHO;XoWVf_4IrR`id7tR1d5J20?~AM!bjdaycNMfG=hNt*#"
    ),
}
RARE = {name: base64.b85decode(text) for name, text in _WRITTEN.items()}


def segment(marker: int, body: bytes) -> bytes:
    """A marker segment."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    """Put right behind SOI."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def without(jpeg: bytes, marker: int) -> bytes:
    """Without all segments of a kind in its header."""
    kept, at = [jpeg[:2]], 2
    while jpeg[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4])
        if jpeg[at + 1] != marker:
            kept.append(jpeg[at:end])
        at = end
    return b"".join([*kept, jpeg[at:]])


def find(jpeg: bytes, *markers: int) -> int:
    """Where the first segment of one of these kinds begins in the header."""
    at = 2
    while jpeg[at + 1] not in markers:
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4])
    return at


def scan(jpeg: bytes) -> int:
    """Where the first scan's content begins."""
    at = find(jpeg, 0xDA)
    return at + 2 + int.from_bytes(jpeg[at + 2 : at + 4])


def sized(jpeg: bytes, width: int, height: int) -> bytes:
    """With another size in its frame header."""
    at = find(jpeg, 0xC0, 0xC1, 0xC2) + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


def holed(jpeg: bytes, start: float, share: float = 0.2) -> bytes:
    """A part of the scans cut out, their end in place."""
    first, end = scan(jpeg), len(jpeg) - 2
    at = first + int((end - first) * start)
    return jpeg[:at] + jpeg[at + int((end - first) * share) :]


def restarts_swapped(jpeg: bytes) -> bytes:
    """The first two restart markers change places."""
    first, second = jpeg.index(b"\xff\xd0", scan(jpeg)), jpeg.index(b"\xff\xd1", scan(jpeg))
    return jpeg[: first + 1] + b"\xd1" + jpeg[first + 2 : second + 1] + b"\xd0" + jpeg[second + 2 :]


def scan_bomb(side: int, scans: int) -> bytes:
    """A grey progressive JPEG of `side` x `side` px, all one level, that refines its coefficients again and again.

    Each scan is some hundred bytes, and makes a decoder visit every block of the picture: at 13,376 px, each of the 880
    scans that are possible costs a tenth of a second.
    """
    blocks = (-(-side // 8)) ** 2
    one_code = bytes([1, *[0] * 15])  # a table of a single code of one bit
    steps = [(k, high) for k in range(1, 64) for high in (0, *range(13, 0, -1))][: scans - 1]
    runs = _bits("0" + "1" * 14, -(-blocks // 32_767))  # end of band, for 32,767 blocks
    content = [
        b"\xff\xd8",
        segment(0xDB, b"\0" + b"\1" * 64),
        segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + b"\1\x11\0"),
        segment(0xC4, b"\0" + one_code + b"\0"),
        segment(0xC4, b"\x10" + one_code + b"\xe0"),
        segment(0xDA, bytes([1, 1, 0, 0, 0, 0])) + _bits("0", blocks),
        *(segment(0xDA, bytes([1, 1, 0, k, k, high << 4 | (high or 14) - 1])) + runs for k, high in steps),
        b"\xff\xd9",
    ]
    return b"".join(content)


def _bits(code: str, count: int) -> bytes:
    """A code again and again as a scan's content: filled up with ones, a zero byte behind each FF."""
    bits = code * count
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8).replace(b"\xff", b"\xff\0")


def tar_and_jpeg(jpeg: bytes) -> bytes:
    """A file that is a JPEG, and a tar of one member: the tar's header is a comment in the JPEG."""
    info = tarfile.TarInfo((b"\xff\xd8\xff\xfe" + struct.pack(">H", 508)).decode("utf-8", "surrogateescape"))
    info.size = len(jpeg) - 2
    header = info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape")  # 512 bytes, with which the comment ends
    return header + jpeg[2:] + b"\0" * (-info.size % 512 + 1024)


def png(width: int, height: int, bits: int, colours: int, rows: bytes | None = None) -> bytes:
    """A PNG (ISO/IEC 15948), written row by row: of a 50,000 px wide one, no picture is ever held.

    Args:
        width: in pixels.
        height: in pixels.
        bits: a channel.
        colours: their number in the format: 0 grey, 2 RGB, 6 RGBA.
        rows: the samples, row by row; None: all are zero.
    """
    size = -(-width * bits * {0: 1, 2: 3, 6: 4}[colours] // 8)
    squeeze = zlib.compressobj(1)
    packed = [squeeze.compress(b"\0" + (rows[at * size :][:size] if rows else bytes(size))) for at in range(height)]
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0),
        b"IDAT": b"".join([*packed, squeeze.flush()]),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks.items())


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunk(png: bytes, kind: bytes, body: bytes) -> bytes:
    """Put right behind IHDR."""
    return png[:33] + _chunk(kind, body) + png[33:]


def gif_screen(gif: bytes, width: int, height: int) -> bytes:
    """The same frame on a screen of another size."""
    return gif[:6] + struct.pack("<HH", width, height) + gif[10:]


def webp_sized(webp: bytes, side: int) -> bytes:
    """Another size for a lossless WebP; one of a single colour takes no bit a pixel, so it stays whole."""
    at = webp.index(b"VP8L") + 9
    sizes = int.from_bytes(webp[at : at + 4], "little") >> 28 << 28 | side - 1 << 14 | side - 1
    return webp[:at] + sizes.to_bytes(4, "little") + webp[at + 4 :]
