"""Messages of OTLP as JSON has them, in the form that `spanstore trace --format json` gives."""

import base64
import math
import struct

from basics import fields_of, last, repeated, signed, time_text


def plain_double(value):
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def plain_value(message):
    """An `AnyValue`: texts, numbers, lists and objects as JSON has them, bytes in base64."""
    *_, (number, value) = [(0, None), *fields_of(message)]
    kinds = {
        1: lambda: value.decode(), 2: lambda: value != 0, 3: lambda: signed(value),
        4: lambda: plain_double(struct.unpack("<d", value)[0]),
        5: lambda: [plain_value(one) for one in repeated(value, 1)],
        6: lambda: plain_attributes(repeated(value, 1)),
        7: lambda: base64.b64encode(value).decode(), 8: lambda: value,
    }
    return kinds.get(number, lambda: None)()


def plain_pair(message):
    return last(message, 1, b"").decode(), plain_value(last(message, 2, b""))


def plain_attributes(entries):
    """Encoded `KeyValue`s as an object: of equal keys the first one counts."""
    return dict(plain_pair(entry) for entry in reversed(entries))


def text_of(message, number):
    return last(message, number, b"").decode()


def plain_event(event):
    time = struct.unpack("<q", last(event, 1, bytes(8)))[0]
    return {"name": text_of(event, 2), "time": time_text(time),
            "attributes": plain_attributes(repeated(event, 3))}


def plain_link(link):
    return {"trace_id": last(link, 1, b"").hex(), "span_id": last(link, 2, b"").hex(),
            "trace_state": text_of(link, 3), "attributes": plain_attributes(repeated(link, 4))}


def plain_scope(scope):
    return {"name": text_of(scope, 1), "version": text_of(scope, 2),
            "attributes": plain_attributes(repeated(scope, 3))}
