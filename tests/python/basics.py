"""What FORMAT.md takes from elsewhere: CRC32C, XXH3, protobuf, roaring bitmaps, times as text."""

import datetime
import struct


class Damage(Exception):
    """The bytes are not what FORMAT.md says."""


def expect(holds, message):
    if not holds:
        raise Damage(message)


def crc32c_of_byte(value):
    for _ in range(8):
        value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value


CRC32C_TABLE = [crc32c_of_byte(value) for value in range(256)]


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ CRC32C_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def xxh3_64_of_16_bytes(data):
    """XXH3 of 64 bits with seed 0; the case "9 to 16 bytes" of its specification."""
    mask = (1 << 64) - 1
    low, high = struct.unpack("<2Q", data)
    low ^= 0x1F67B3B7A4A44072 ^ 0x78E5C0CC4EE679CB
    high ^= 0x2172FFCC7DD05A82 ^ 0x8E2443F7744608B8
    product = low * high
    swapped = int.from_bytes(low.to_bytes(8, "little"), "big")
    value = (16 + swapped + high + ((product & mask) ^ (product >> 64))) & mask
    value ^= value >> 37
    value = value * 0x165667919E3779F9 & mask
    return value ^ (value >> 32)


def varint(data, at):
    """The varint at an offset, and the offset behind it."""
    value = shift = 0
    while True:
        expect(at < len(data) and shift < 64, "a varint does not end")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def fields_of(message):
    """Number and value of each field of a protobuf message: a varint as an integer, all else as bytes."""
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        wire_type = tag & 7
        expect(wire_type in (0, 1, 2, 5), f"wire type {wire_type} in a protobuf message")
        if wire_type == 0:
            value, at = varint(message, at)
        else:
            length = 8 if wire_type == 1 else 4
            if wire_type == 2:
                length, at = varint(message, at)
            expect(at + length <= len(message), "a protobuf field reaches past its message")
            value, at = message[at:at + length], at + length
        yield tag >> 3, value


def repeated(message, number):
    return [value for field, value in fields_of(message) if field == number]


def last(message, number, default):
    """The value of a field: of one that comes several times, the last one counts."""
    return (repeated(message, number) or [default])[-1]


def numbers(message, number):
    """A repeated field of integers: packed into one field of bytes, or one by one."""
    for value in repeated(message, number):
        at = 0
        while isinstance(value, bytes) and at < len(value):
            one, at = varint(value, at)
            yield one
        if isinstance(value, int):
            yield value


def signed(number):
    return number - (1 << 64) if number >> 63 else number


def time_text(nanoseconds):
    seconds, nanoseconds = divmod(nanoseconds, 10**9)
    time = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
    return f"{time.isoformat()}.{nanoseconds:09}Z"


def roaring_rows(data):
    """The numbers in a roaring bitmap of the portable format."""
    cookie = struct.unpack_from("<I", data)[0]
    if cookie & 0xFFFF == 12347:
        containers, at = (cookie >> 16) + 1, 4 + ((cookie >> 16) + 8) // 8
        is_runs = int.from_bytes(data[4:at], "little")
    else:
        expect(cookie == 12346, "a bitmap begins with no known cookie")
        containers, at, is_runs = struct.unpack_from("<I", data, 4)[0], 8, 0
    descriptions = struct.unpack_from(f"<{2 * containers}H", data, at)
    at += (8 if cookie == 12346 or containers >= 4 else 4) * containers
    rows = []
    for number in range(containers):
        base, count = descriptions[2 * number] << 16, descriptions[2 * number + 1] + 1
        if is_runs >> number & 1:
            runs = struct.unpack_from("<H", data, at)[0]
            for first, more in struct.iter_unpack("<2H", data[at + 2:at + 2 + 4 * runs]):
                rows.extend(range(base + first, base + first + more + 1))
            at += 2 + 4 * runs
        elif count <= 4096:
            rows.extend(base + low for low in struct.unpack_from(f"<{count}H", data, at))
            at += 2 * count
        else:
            bits = int.from_bytes(data[at:at + 8192], "little")
            rows.extend(base + low for low in range(65_536) if bits >> low & 1)
            at += 8192
    return rows
