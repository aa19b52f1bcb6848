"""The constants of questions, drawn by chance from what occurs in the data."""

import re

# The levels that people look for; `fatal` is too rare, `info` is nearly all.
LEVELS = ("error", "warning")

# Attributes whose texts are few, and one of numbers.
TEXT_KEYS = ("db.collection.name", "db.operation.name", "next.span_type", "operation.name",
             "vercel.path_type", "user_agent.original")
NUMBER_KEY = "db.response.returned_rows"


class Values:
    """What occurs in the data, read from DuckDB's table."""

    def __init__(self, connection):
        def column(text):
            return [row[0] for row in connection.execute(text).fetchall()]

        def all_of(expression, condition="true"):
            return column(f"select distinct {expression} as value from spans "
                          f"where value is not null and {condition} order by value")

        self.traces = all_of("trace_id")
        self.sessions = all_of("session_id")
        self.routes = column("select route from spans where route is not null "
                             "group by route having count(*) >= 100 order by route")
        self.names = words(all_of("name"))
        self.names_at = {level: words(all_of("name", f"level = '{level}'")) for level in LEVELS}
        self.highest_status_at = {
            level: max(all_of("status_code", f"level = '{level}'")) for level in LEVELS}
        self.paths = words(all_of("path"))
        self.slow = column("select unnest(quantile_disc(duration, "
                           "[0.99 + 0.0001 * n for n in range(100)])) from spans")
        self.texts = [(key, text) for key in TEXT_KEYS for text in all_of(f"attributes['{key}']")]
        self.numbers = all_of(f"cast(attributes['{NUMBER_KEY}'] as bigint)")
        # Where it is not 0, the newest 50 have no order that is the same everywhere.
        [self.not_first] = column("select count(*) - count(distinct start_time) from spans")
        self.first, self.last = connection.execute(
            "select min(start_time), max(start_time) from spans").fetchone()


def words(texts):
    """The longer words of texts: letters alone, which no pattern reads as anything else."""
    return sorted({word for text in texts for word in re.findall("[A-Za-z]{5,}", text)})


def nothing(values, random):
    return {}


def trace(values, random):
    return {"trace": random.choice(values.traces)}


def absent_trace(values, random):
    return {"trace": random.randbytes(16)}


def session(values, random):
    return {"session": random.choice(values.sessions)}


def route(values, random):
    return {"route": random.choice(values.routes)}


def slow(values, random):
    """A duration that one in a hundred to one in ten thousand reach."""
    longest = random.choice(values.slow)
    return {"duration": longest - random.randint(0, longest // 100)}


def level(values, random):
    return {"level": random.choice(LEVELS)}


def level_and_status(values, random):
    level = random.choice(LEVELS)
    return {"level": level, "status": random.randint(400, values.highest_status_at[level])}


def part_of_word(choices, random):
    """Four to eight letters, as the pattern of `like` and as that of `glob`."""
    word = random.choice(choices)
    start = random.randint(0, len(word) - 4)
    part = word[start:start + random.randint(4, 8)]
    return {"like": f"%{part}%", "glob": f"*{part}*"}


def part_of_name(values, random):
    return part_of_word(values.names, random)


def part_of_name_and_level(values, random):
    level = random.choice(LEVELS)
    return {**part_of_word(values.names_at[level], random), "level": level}


def part_of_path(values, random):
    """In small letters, in capitals, or as it stands."""
    like = part_of_word(values.paths, random)["like"]
    return {"like": random.choice((like, like.lower(), like.upper()))}


def text_attribute(values, random):
    key, text = random.choice(values.texts)
    return {"key": key, "text": text, "path": f'$."{key}"'}


def number_attribute(values, random):
    number = random.choice(values.numbers)
    return {"number": number, "digits": str(number)}


def end(values, random):
    return {"until": random.randint(values.first, values.last)}


def quarter(values, random):
    """A quarter of the time that the data covers."""
    length = (values.last - values.first) // 4
    since = random.randint(values.first, values.last - length)
    return {"since": since, "until": since + length}


def quarter_and_level(values, random):
    return {**quarter(values, random), **level(values, random)}


def sixty_buckets(values, random):
    """At least half of the time, and a sixtieth of that."""
    covered = values.last - values.first
    width = random.randint(covered // 2, covered) // 60
    since = random.randint(values.first, values.last - 60 * width)
    return {"since": since, "until": since + 60 * width, "width": width}
