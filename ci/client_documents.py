"""Holds the documents of the README against what `/openapi.json` says of them, with the validator of PyPI's jsonschema.
Arguments: the address of the description, and the README."""

import json
import re
import sys
import urllib.request

import jsonschema

SCHEMAS = {"/schedules": "RegistrationDocument", "/schedules/preview": "PreviewDocument"}


def documents(readme):
    """Every document that the README sends or shows, with the name of its schema."""
    for path, text in re.findall(r"curl -s localhost:9902(/\S*) [^\n]*-d '(.*?)'", readme, re.DOTALL):
        if path in SCHEMAS:
            yield SCHEMAS[path], json.loads(text)
    for text in re.findall(r"```json\n(.*?)```", readme, re.DOTALL):
        document = json.loads(text)
        if "task" in document:
            yield "RegistrationDocument", document


def validator(description, name):
    schema = {"$ref": f"#/components/schemas/{name}", "components": description["components"]}
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def main(address, readme):
    with urllib.request.urlopen(address) as answer:
        description = json.load(answer)
    with open(readme, encoding="utf-8") as file:
        found = list(documents(file.read()))
    names = [name for name, _ in found]
    assert names.count("RegistrationDocument") >= 2 and "PreviewDocument" in names, names
    for name, document in found:
        validator(description, name).validate(document)
        if name == "RegistrationDocument":
            refused = {**document, "client": {"app": "w"}}
            assert not validator(description, name).is_valid(refused), "a misspelt client is accepted"
    print(f"{len(found)} documents of the README are valid")


main(*sys.argv[1:])
