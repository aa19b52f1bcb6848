"""Requests in SQL, out of the spans of their traces."""

# Of the root, or of the earliest span that has one.
OF_ROOT_OR_EARLIEST = ("request_id", "session_id", "user_id", "function")
OF_ROOTS = (*OF_ROOT_OR_EARLIEST, "name", "service", "origin", "method", "host",
            "path", "route", "status_code", "request_type", "resource", "cache",
            "cache_reason", "project_id", "environment", "deployment_id", "branch", "region",
            "client_address", "user_agent")
# The root, or the earliest span where there is none: no trace of the sample that lost its root
# has a server span without its parent, which would come first.
ROOT_FIRST = "(parent_span_id is not null, start_time, span_id)"
LEVELS = "['info', 'warning', 'error', 'fatal']"
OF_TRACES = {
    "start_time": "min(start_time)",
    "end_time": "max(start_time + duration)",
    "duration": "max(start_time + duration) - min(start_time)",
    "spans": "count(*)",
    "errors": "count(*) filter (level in ('error', 'fatal'))",
    "warnings": "count(*) filter (level = 'warning')",
    "level": f"{LEVELS}[max(list_position({LEVELS}, level))]",
    "services": "list(distinct service)",
    "cold_start": "bool_or(cold_start)",
    "has_root": "bool_or(parent_span_id is null)",
}


def of_root(column):
    """A column of the root, also where it is null there unless another span may have it."""
    of_root_alone = f"arg_min_null({column}, {ROOT_FIRST})"
    if column not in OF_ROOT_OR_EARLIEST:
        return of_root_alone
    return f"coalesce({of_root_alone}, arg_min({column}, (start_time, span_id)))"


def table(columns, where=""):
    """The table of requests with some columns, of the spans of some traces."""
    expressions = {**{name: of_root(name) for name in OF_ROOTS}, **OF_TRACES}
    wanted = ", ".join(f"{expressions[name]} as {name}" for name in columns if name != "trace_id")
    return f"(select trace_id, {wanted} from spans {where}group by trace_id)"


ALL = (*OF_ROOTS, *OF_TRACES)
