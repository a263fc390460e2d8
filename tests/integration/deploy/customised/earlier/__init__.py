"""Templates of earlier versions, which have the words TAGS and TAGMAP in the places of tags."""

import re


def with_places_for_tags(text):
    """Return the template with a tag of cloudknot in each place for tags."""
    text = re.sub(r"(?m)(?<=[:-] )TAGS$", "[{Key: cloudknot, Value: !Ref AWS::StackName}]", text)
    return re.sub(r"(?m)(?<=[:-] )TAGMAP$", "{cloudknot: !Ref AWS::StackName}", text)
