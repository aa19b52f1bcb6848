#!/usr/bin/env python3
"""Reads segments and logs of a store. It follows FORMAT.md and shares no code with the store.

    reader.py trace SEGMENT TEAM TRACE_ID    the rows of a trace in a segment
    reader.py facets SEGMENT TEAM COLUMN     the values of a facet, with counts
    reader.py log DIRECTORY                  the records of a log

Each prints one JSON object a line. The exit code is 0 when all was read, 1 when something
is damaged (standard error says what), 2 for wrong usage. Nothing is written, and the
catalog is not read: so rows are shown that the store hides (erasures, retention), and so
are records of the log that are sealed. Needs pyarrow; the rest is Python's own.
"""

import json
import os
import struct
import sys
from base64 import b64encode
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq

sys.dont_write_bytecode = True

from basics import Damage, crc32c, expect, last, numbers, repeated, roaring_rows, time_text, varint
from basics import xxh3_64_of_16_bytes
from otlp import plain_attributes, plain_double, plain_event, plain_link, plain_pair, plain_scope, text_of

# Segments

BLOCK_BYTES = 16_384
GROUP_ROWS = 65_536
PARTS = {1: "columns", 2: "directory", 3: "traces", 4: "sessions", 5: "requests",
         6: "facets", 7: "postings", 8: "origin", 9: "resources", 10: "scopes"}
IS_BITMAP = 1 << 31
ALL_OTHERS = (1 << 32) - 1


class Segment:
    """A segment's file. Each byte is verified before it counts, but for the place of the index."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = file.read()
        self.parquet = pq.ParquetFile(pa.BufferReader(self.data))
        pairs = self.parquet.metadata.metadata or {}
        expect(b"spanstore.index" in pairs, "the footer has no pair `spanstore.index`")
        self.index_offset = int(pairs[b"spanstore.index"])
        self.read_header()
        own = len(self.data) - 12
        self.verify(self.tail_offset, own, struct.unpack_from("<I", self.data, own)[0])
        columns = self.read(*self.parts["columns"])
        self.columns = [name.decode() for name in repeated(columns, 3)]
        self.promoted = [PromotedKey(key) for key in repeated(columns, 4)]

    def verify(self, start, end, checksum):
        expect(0 <= start <= end <= len(self.data), f"bytes {start} .. {end} are not in the file")
        expect(crc32c(self.data[start:end]) == checksum,
               f"the checksum of the bytes {start} .. {end} does not hold")

    def read_header(self):
        data, start = self.data, self.index_offset
        expect(data[start:start + 8] == b"SPANIDX\0", f"no index header at {start}")
        (version, _month, self.rows, _segment, block_bytes, of_checksums,
         part_count) = struct.unpack_from("<HHIQIII", data, start + 8)
        expect(version == 4, f"version {version} of a segment is not known")
        expect(part_count <= 64, f"{part_count} parts")
        parts_end = start + 40 + 24 * part_count
        self.verify(start, parts_end, struct.unpack_from("<I", data, parts_end)[0])
        expect(block_bytes == BLOCK_BYTES, f"blocks of {block_bytes} bytes")
        expect(self.rows == self.parquet.metadata.num_rows, f"{self.rows} rows in the header")
        self.parts = {}
        for kind, version, flags, first, end in struct.iter_unpack("<HHIQQ", data[start + 40:parts_end]):
            if kind not in PARTS or version != 1:
                expect(not flags & 1, f"a required part of kind {kind} and version {version} is not known")
                continue
            expect(first <= end <= start, f"part {PARTS[kind]} reaches past the index header")
            self.parts[PARTS[kind]] = (first, end)
        expect(self.parts.keys() | {"facets"} == set(PARTS.values()), "a part is missing")
        block_count = -(-start // BLOCK_BYTES)
        self.tail_offset = parts_end + 8 + 4 * block_count
        self.verify(parts_end + 8, self.tail_offset, of_checksums)
        self.block_checksums = struct.unpack_from(f"<{block_count}I", data, parts_end + 8)
        self.verified_blocks = set()

    def read(self, start, end):
        """Bytes of the file that lie before the index header; their blocks are verified."""
        expect(0 <= start <= end <= self.index_offset, f"bytes {start} .. {end} are not before the index")
        for block in range(start // BLOCK_BYTES, -(-end // BLOCK_BYTES)):
            if block not in self.verified_blocks:
                block_end = min((block + 1) * BLOCK_BYTES, self.index_offset)
                self.verify(block * BLOCK_BYTES, block_end, self.block_checksums[block])
                self.verified_blocks.add(block)
        return self.data[start:end]

    def read_in(self, part, start, end):
        """Bytes that are counted from the start of a part."""
        part_start, part_end = self.parts[part]
        expect(start <= end <= part_end - part_start, f"bytes {start} .. {end} are not in {part}")
        return self.read(part_start + start, part_start + end)

    def partition(self, team):
        """The ranges of a team by their names; None for a team without rows."""
        directory = self.read(*self.parts["directory"])
        count = struct.unpack_from("<I", directory)[0]
        teams = directory[4 + 64 * count:]
        for entry in range(4, 4 + 64 * count, 64):
            start, length, *ranges = struct.unpack_from("<12I", directory, entry)
            if teams[start:start + length] == team.encode():
                expect(ranges[0] <= ranges[1] <= self.rows, "a partition reaches past the last row")
                names = ("rows", "traces", "sessions", "requests", "facets")
                return dict(zip(names, zip(ranges[0::2], ranges[1::2])))
        return None

    def rows_of_posting(self, start, length):
        if length < IS_BITMAP:
            return range(start, start + length)
        return roaring_rows(self.read_in("postings", start, start + length - IS_BITMAP))

    def rows_of_trace(self, partition, trace_id):
        """The rows that the trace index names; some may be those of another trace."""
        block = self.read_in("traces", *partition["traces"])
        if not block:
            return []
        entries, bucket_bits, start_bits, length_bits, entry_bytes = struct.unpack_from("<I4B", block)
        ends = struct.unpack_from(f"<{2 ** bucket_bits - 1}I", block, 8)
        entries_at = 8 + 4 * len(ends)
        key_bits = 8 * entry_bytes - start_bits - length_bits
        hash_ = xxh3_64_of_16_bytes(trace_id)
        bucket = hash_ >> (64 - bucket_bits)
        key = (hash_ << bucket_bits) % (1 << 64) >> (64 - key_bits)
        first = ends[bucket - 1] if bucket > 0 else 0
        for number in range(first, ends[bucket] if bucket < len(ends) else entries):
            at = entries_at + number * entry_bytes
            entry = int.from_bytes(block[at:at + entry_bytes], "little")
            if entry >> (length_bits + start_bits) != key:
                continue
            start = (entry >> length_bits) % (1 << start_bits)
            length = entry % (1 << length_bits)
            if length == 0:
                posting = entries_at + entries * entry_bytes + 8 * start
                return self.rows_of_posting(*struct.unpack_from("<2I", block, posting))
            start += partition["rows"][0]
            return range(start, start + length)
        return []

    def read_rows(self, rows):
        """Rows by their numbers: a dictionary of the columns for each."""
        found = {}
        for group in sorted({row // GROUP_ROWS for row in rows}):
            metadata = self.parquet.metadata.row_group(group)
            for place in range(metadata.num_columns):
                chunk = metadata.column(place)
                start = chunk.dictionary_page_offset or chunk.data_page_offset
                self.read(start, start + chunk.total_compressed_size)
            here = sorted(row for row in rows if row // GROUP_ROWS == group)
            table = self.parquet.read_row_group(group).take([row % GROUP_ROWS for row in here])
            columns = {}
            for name, column in zip(table.column_names, table.columns):
                # Times as numbers: Python's own have no nanoseconds.
                is_time = pa.types.is_timestamp(column.type)
                columns[name] = (column.cast(pa.int64()) if is_time else column).to_pylist()
            for place, row in enumerate(here):
                found[row] = {name: values[place] for name, values in columns.items()}
        return found

    def shared(self, part, number):
        """A resource or scope by its number, and its schema URL."""
        if number is None:
            return None, None
        _, blocks = struct.unpack("<2I", self.read_in(part, 0, 8))
        data_at = 8 + 24 * blocks
        entries = list(struct.iter_unpack("<2IQ2I", self.read_in(part, 8, data_at)))
        first, _, offset, length, size = [entry for entry in entries if entry[0] <= number][-1]
        data = self.read_in(part, data_at + offset, data_at + offset + length)
        messages = repeated(pa.decompress(data, size, codec="zstd", asbytes=True), 1)
        expect(number - first < len(messages), f"{part} has no message {number}")
        message = messages[number - first]
        url = last(message, 2, None)
        return last(message, 1, None), url.decode() if url is not None else None

    def attributes(self, row):
        """The attributes of a row in their order; None for a row without."""
        entries = repeated(row["attributes"] or b"", 9)
        order = row.get("attribute_order")
        if order is None:
            return plain_attributes(entries) if row["attributes"] is not None else None
        rest, pairs, at = iter(entries), {}, 0
        while at < len(order):
            number, at = varint(order, at)
            expect(number <= len(self.promoted), f"{number} in an order of attributes stands for no key")
            key, value = plain_pair(next(rest)) if number == 0 else self.promoted[number - 1].pair(row)
            pairs.setdefault(key, value)
        expect(next(rest, None) is None, "more attributes than their order names")
        return pairs

    def counts(self, rows, block, facet):
        """How many rows have each value of a facet, and at last none, counted from the rows themselves."""
        _, values, values_at, _, code_column, start, length = struct.unpack_from("<7I", block, facet)
        if code_column > 0:
            facets, strays = struct.unpack_from("<2I", block)
            at = 12 + 28 * facets + 4 * strays + 12 * (code_column - 1)
            counts = [0] * (values + 1)
            for code, count in self.codes(rows, *struct.unpack_from("<3I", block, at)).items():
                counts[block[start + code]] += count
            return counts
        postings = [struct.unpack_from("<2I", block, values_at + 20 * value + 12) for value in range(values)]
        postings.append((start, length))
        counts = [0 if words[1] == ALL_OTHERS else len(self.rows_of_posting(*words)) for words in postings]
        others = rows[1] - rows[0] - sum(counts)
        return [others if words[1] == ALL_OTHERS else count for words, count in zip(postings, counts)]

    def codes(self, rows, start, length, codes):
        """How many rows of a partition have each code of a code column."""
        planes = (codes - 1).bit_length()
        if planes == 0:
            return {0: rows[1] - rows[0]}
        data = self.read_in("postings", start, start + length)
        groups = range(rows[0] // GROUP_ROWS, -(-rows[1] // GROUP_ROWS))
        pieces = data[4 * len(groups) * planes:]
        ends = iter(struct.unpack_from(f"<{len(groups) * planes}I", data))
        found, piece_start = Counter(), 0
        for group in groups:
            first, end = max(rows[0], group * GROUP_ROWS), min(rows[1], (group + 1) * GROUP_ROWS)
            chunk_start, chunk_rows = first // 8 * 8, -(-end // 8) * 8 - first // 8 * 8
            bits_of_planes = []
            for _ in range(planes):
                piece_end = next(ends)
                piece, piece_start = pieces[piece_start:piece_end], piece_end
                bits = int.from_bytes(piece, "little")
                if len(piece) < chunk_rows // 8:
                    bits = 0
                    for change, in struct.iter_unpack("<H", piece):
                        bits ^= (1 << chunk_rows) - (1 << change)
                text = f"{bits:0{chunk_rows}b}"[::-1]
                bits_of_planes.insert(0, text[first - chunk_start:end - chunk_start])
            found.update(int("".join(bits), 2) for bits in zip(*bits_of_planes))
        return found


class PromotedKey:
    """An attribute key whose values lie in a column."""

    def __init__(self, message):
        self.key, self.column, self.suffix = (last(message, number, b"").decode() for number in (1, 3, 7))
        self.is_own, self.has_strays = (last(message, number, 0) != 0 for number in (4, 5))

    def pair(self, row):
        value = row[self.column]
        expect(value is not None, f"no value of {self.key} in its column")
        return self.key, plain_double(value) + row[self.suffix] if self.suffix else plain_double(value)


def plain_span(segment, number, rows):
    """A row as an object, with the names and forms of `spanstore trace --format json`."""
    row = rows[number]
    hidden = {"team_id", "trace_start", "duration", "rest", "resource_number", "scope_number",
              "parent_distance", "attribute_order"}
    span = {name: value for name, value in row.items()
            if name not in hidden and not name.startswith("attributes.")}
    if row.get("parent_distance") is not None:
        parent = number + row["parent_distance"]
        expect(parent in rows, f"the parent of row {number} is no row of the trace")
        span["parent_span_id"] = rows[parent]["span_id"]
    for name in ("trace_id", "span_id", "parent_span_id"):
        span[name] = span[name] and span[name].hex()
    # What a column that is not in the file reads as.
    span = {"sequence": 0, "origin": "user", "level": "info"} | span
    resource, resource_url = segment.shared("resources", row.get("resource_number"))
    scope, scope_url = segment.shared("scopes", row.get("scope_number"))
    scope = None if scope is None else plain_scope(scope)
    events, links = row["events"], row["links"]
    return {"row": number} | span | {
        "start_time": time_text(row["start_time"]),
        "duration_ns": row["duration"],
        "attributes": segment.attributes(row),
        "resource_attributes": None if resource is None else plain_attributes(repeated(resource, 1)),
        "resource_schema_url": resource_url,
        "scope": scope,
        "scope_name": scope and scope["name"] or None,
        "scope_version": scope and scope["version"] or None,
        "scope_schema_url": scope_url,
        "events": None if events is None else [plain_event(event) for event in repeated(events, 11)],
        "links": None if links is None else [plain_link(link) for link in repeated(links, 13)],
    }


def print_trace(path, team, trace_id):
    segment, trace_id = Segment(path), bytes.fromhex(trace_id)
    expect(len(trace_id) == 16, "a trace id has 16 bytes")
    partition = segment.partition(team)
    if partition is None:
        return True
    rows = segment.rows_of_trace(partition, trace_id)
    first, end = partition["rows"]
    expect(all(first <= row < end for row in rows), "the trace index names rows of another team")
    rows = {number: row for number, row in segment.read_rows(rows).items() if row["trace_id"] == trace_id}
    for number, row in rows.items():
        expect(row["team_id"] == team, f"row {number} is not one of team {team}")
        print(json.dumps(plain_span(segment, number, rows)))
    return True


def print_facet(path, team, column):
    segment = Segment(path)
    partition = segment.partition(team)
    has_block = partition is not None and "facets" in segment.parts
    block = segment.read_in("facets", *partition["facets"]) if has_block else b""
    facets, strays = struct.unpack_from("<2I", block) if block else (0, 0)
    for facet in range(12, 12 + 28 * facets, 28):
        place, values, values_at, without = struct.unpack_from("<4I", block, facet)
        if segment.columns[place] != column:
            continue
        type_ = segment.parquet.schema_arrow.field(column).type
        said = []
        for value in struct.iter_unpack("<5I", block[values_at:values_at + 20 * values]):
            data = block[value[0]:value[0] + value[1]]
            said.append((facet_value(data, type_), value[2]))
        said.append((None, without))
        found = segment.counts(partition["rows"], block, facet)
        expect(found == [count for _, count in said], f"{found} rows have the values, not {said}")
        for value, count in said:
            print(json.dumps({"value": value, "count": count}))
        for key in struct.unpack_from(f"<{strays}I", block, 12 + 28 * facets):
            if segment.promoted[key].is_own and segment.promoted[key].column == column:
                print("other values of this key lie in `attributes`", file=sys.stderr)
        return True
    print(f"team {team} has no facet of {column} in this segment", file=sys.stderr)
    return True


def facet_value(data, type_):
    if pa.types.is_string(type_):
        return data.decode()
    if pa.types.is_boolean(type_):
        return data != b"\0"
    return int.from_bytes(data, "big") - (1 << 63)


# The log


class LogFile:
    """A file of the log, whose header is good."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = data = file.read()
        expect(len(data) >= 64 and data[:8] == b"SPANLOG\0", "no header of a log file")
        version, _, checksum, self.first, self.mark, *self.predecessor = struct.unpack_from("<HHI6Q", data, 8)
        expect(version == 2, f"version {version} of a log file is not known")
        expect(crc32c(data[:12] + data[16:64]) == checksum, "the checksum of the header does not hold")
        expect(os.path.basename(path) == f"{self.first:020}.log", f"the header names sequence {self.first}")
        expect(not any(self.predecessor) or self.predecessor[1] == self.first,
               "the file before ends elsewhere")
        # Where the frames end that are good so far, and the sequence after them.
        self.end, self.next_sequence = 64, self.first

    def frame_at(self, at):
        """Sequence, settled and payload of a frame that is good but for its place."""
        expect(at + 32 <= len(self.data), "the frame reaches past the end of the file")
        length, checksum, mark, sequence, settled = struct.unpack_from("<IIQQQ", self.data, at)
        end = at + 32 + length
        expect(length <= 134_217_728, f"{length} bytes of payload are above the limit")
        expect(end <= len(self.data), "the frame reaches past the end of the file")
        expect(mark == self.mark, "the mark is not the file's")
        expect(crc32c(self.data[at:at + 4] + self.data[at + 8:end]) == checksum, "the checksum does not hold")
        expect(settled <= sequence, f"settled {settled} is above the sequence {sequence}")
        return sequence, settled, self.data[at + 32:end]

    def frames(self):
        """Offset, sequence and payload of each frame; ends with an error at a bad one."""
        while self.end < len(self.data):
            at = self.end
            sequence, _, payload = self.frame_at(at)
            expect(sequence == self.next_sequence, f"sequence {sequence} in place of {self.next_sequence}")
            self.end, self.next_sequence = at + 32 + len(payload), sequence + 1
            yield at, sequence, payload

    def summary(self):
        """What the file after this one says of it."""
        return [self.first, self.next_sequence, self.end, self.mark]

    def has_proof_of_damage(self):
        """Whether a good frame behind the first bad one says that the bad one was on disk."""
        mark, lowest = struct.pack("<Q", self.mark), self.next_sequence
        at = self.end - 1
        while (at := self.data.find(mark, at + 9) - 8) >= 0:
            try:
                sequence, settled, payload = self.frame_at(at)
            except Damage:
                continue
            if sequence >= lowest:
                if settled > self.next_sequence:
                    return True
                # What lies within a good frame is its payload.
                lowest, at = sequence + 1, at + 31 + len(payload)
        return False


def plain_receipt(receipt):
    refused = [{"number": last(one, 1, 0), "reason": last(one, 2, 0)} for one in repeated(receipt, 3)]
    months = [{"month": f"{1970 + last(one, 1, 0) // 12:04}-{last(one, 1, 0) % 12 + 1:02}",
               "used": last(one, 2, 0), "limit": last(one, 3, 0)} for one in repeated(receipt, 4)]
    return {"accepted": last(receipt, 1, 0), "duplicates": last(receipt, 2, 0), "refused": refused,
            "months": months, "repeated": last(receipt, 5, 0) != 0}


def plain_record(payload):
    """A record of the log, which is of one of three kinds."""
    team, receipt, key = text_of(payload, 1), last(payload, 5, None), last(payload, 4, None)
    if last(payload, 8, 0):
        return {"kind": "forget", "team": team}
    receipt = None if receipt is None else plain_receipt(receipt)
    request = last(payload, 2, None)
    spans = [span for resource in repeated(request or b"", 1)
             for scope in repeated(resource, 2) for span in repeated(scope, 2)]
    time = struct.unpack("<q", last(payload, 7, bytes(8)))[0]
    return {"kind": "receipt" if request is None else "spans", "team": team,
            "spans": len(spans), "left_out": list(numbers(payload, 3)),
            "idempotency_key": None if key is None else b64encode(key).decode(),
            "accepted_at": time_text(time) if time else None, "receipt": receipt}


def print_log(directory):
    names = sorted(name for name in os.listdir(directory) if name.endswith(".log"))
    is_whole, previous = True, None

    def report(word, name, offset, message):
        print(f"{word}: {name}, byte {offset}: {message}", file=sys.stderr)

    for name in names:
        try:
            file = LogFile(os.path.join(directory, name))
        except Damage as damage:
            report("damage", name, 0, damage)
            is_whole, previous = False, None
            continue
        if previous is not None and file.predecessor != previous.summary():
            report("damage", name, 32, f"the file before is {previous.summary()}, not {file.predecessor}")
            is_whole = False
        try:
            for offset, sequence, payload in file.frames():
                place = {"sequence": sequence, "file": name, "offset": offset}
                print(json.dumps(place | plain_record(payload)))
        except Damage as damage:
            # Without the catalog, damage to the last frames looks like a torn tail.
            is_tail = name == names[-1] and not file.has_proof_of_damage()
            report("torn tail" if is_tail else "damage", name, file.end, damage)
            is_whole = is_whole and is_tail
        previous = file
    return is_whole


def main(arguments):
    commands = {("trace", 4): print_trace, ("facets", 4): print_facet, ("log", 2): print_log}
    command = commands.get((arguments[0] if arguments else "", len(arguments)))
    if command is None:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        return 0 if command(*arguments[1:]) else 1
    except (Damage, struct.error, pa.ArrowException, OSError, LookupError, ValueError) as damage:
        print(f"damage: {damage}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
