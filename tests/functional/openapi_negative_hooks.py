"""What schemathesis cannot know of what the document forbids: in a form everything is text.

Loaded by schemathesis itself (SCHEMATHESIS_HOOKS) when it sends what the document forbids.
"""

import schemathesis

_TEXT_FIELDS = ("id", "classes")


@schemathesis.hook
def filter_case(context: schemathesis.HookContext, case: schemathesis.Case) -> bool:
    """Leave out forms in which a number stands where text belongs: on the wire it is text, and right."""
    if case.media_type != "multipart/form-data" or not isinstance(case.body, dict):
        return True
    return all(isinstance(case.body.get(name, ""), str) for name in _TEXT_FIELDS)
