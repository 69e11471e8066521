"""Holds the documents of these pages against what `/openapi.json` says of them, with the validator of PyPI's jsonschema.
Arguments: the address of the description, and the pages."""

import json
import re
import sys
import urllib.request

import jsonschema

SCHEMAS = {"/schedules": "RegistrationDocument", "/schedules/preview": "PreviewDocument"}


def documents(page):
    """Every document that a page sends or shows, with the name of its schema."""
    for path, text in re.findall(r"curl -s localhost:9902(/\S*) [^\n]*-d '(.*?)'", page, re.DOTALL):
        if path in SCHEMAS:
            yield SCHEMAS[path], json.loads(text)
    for text in re.findall(r"```json\n(.*?)```", page, re.DOTALL):
        document = json.loads(text)
        if "task" in document:
            yield "RegistrationDocument", document


def validator(description, name):
    schema = {"$ref": f"#/components/schemas/{name}", "components": description["components"]}
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def main(address, *pages):
    with urllib.request.urlopen(address) as answer:
        description = json.load(answer)
    found = []
    for page in pages:
        with open(page, encoding="utf-8") as file:
            found += documents(file.read())
    names = [name for name, _ in found]
    assert names.count("RegistrationDocument") >= 2 and "PreviewDocument" in names, names
    for name, document in found:
        validator(description, name).validate(document)
        if name == "RegistrationDocument":
            refused = {**document, "client": {"app": "w"}}
            assert not validator(description, name).is_valid(refused), "a misspelt client is accepted"
    print(f"{len(found)} documents of README and docs are valid")


main(*sys.argv[1:])
