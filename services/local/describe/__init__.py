"""Write `schemas/contract.cddl` and `schemas/asyncapi.yaml` from the message classes: `python -m services.local.describe`.

A development verb: nothing imports it at run time, and a test fails when the committed documents are not what it makes.
"""
