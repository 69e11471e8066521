"""Registers, lists and deletes with the client that openapi-generator made. Argument: the address of the API."""

import sys

import openapi_client as client


def main(address):
    api = client.SchedulesApi(client.ApiClient(client.Configuration(host=address)))
    document = client.RegistrationDocument.from_dict({
        "name": "hello",
        "client": {"application": "chef", "key": "generated"},
        "type": "cron",
        "schedule": "0 0 3 * * *",
        "timezone": "Asia/Seoul",
        "task": {
            "type": "rest",
            "connection": {"host": "http://localhost:3000/hello", "headers": {"X-Tenant": "chef"}},
            "data": {"say": "good morning"},
        },
    })
    registered = api.register_schedule(document)
    assert registered.change == "created", registered
    assert api.register_schedule(document).change == "unchanged"
    listed = api.list_schedules(application="chef")
    assert [schedule.id for schedule in listed] == [registered.id], listed
    assert listed[0].task.connection.headers == {"X-Tenant": "chef"}, listed
    assert api.delete_schedule(registered.id).count == 1


main(*sys.argv[1:])
