"""Makes valid what JSON Schema has no words for in documents that shall be accepted, and leaves the rest as made up:
a time zone that exists, a schedule in the form its type demands, a host that fits the target, one filter at least.
What shall be refused is sent untouched."""

import schemathesis

SCHEDULES = {"cron": "30 * * * * *", "now": "", "date": "2100-01-01T00:00:00", "delay": "86400", "delay-recur": 86400}
HOSTS = {"rest": "http://127.0.0.1:9/run", "kafka": "127.0.0.1:9", "redis": "redis://127.0.0.1:9"}
HISTORIES = {"list_history", "list_schedule_history"}


@schemathesis.hook
def before_call(context, case, kwargs):
    if not case.meta or not case.meta.generation.mode.is_positive:
        return
    operation = case.operation.definition.raw.get("operationId")
    if isinstance(case.body, dict) and "type" in case.body:
        mend_document(case.body)
        # The schema permits unknown fields, this preference does not.
        if case.headers:
            case.headers.pop("Prefer", None)
    if operation == "delete_schedules" and not any((case.query or {}).values()):
        case.query["application"] = "nobody"
    if operation in HISTORIES and (case.query or {}).get("limit"):
        # More is for CSV alone.
        case.query["limit"] = min(int(case.query["limit"]), 200)


@schemathesis.hook
def filter_case(context, case):
    """An empty parameter counts as left out, for which JSON Schema has no words either."""
    return not case.meta or case.meta.generation.mode.is_positive or all((case.query or {}).values())


def mend_document(document):
    document["schedule"] = SCHEDULES[document["type"]]
    if document.get("timezone"):
        document["timezone"] = "Asia/Seoul"
    if isinstance(document.get("from"), str) or document["type"] in ("cron", "date") and "from" in document:
        document["from"] = "2027-01-01T09:00:00+09:00"
    if "task" not in document:
        return
    kind, connection = document["task"]["type"], document["task"]["connection"]
    connection.pop("name", None)
    connection["host"] = HOSTS[kind]
    if kind != "rest":
        connection["topic"] = "topic"
