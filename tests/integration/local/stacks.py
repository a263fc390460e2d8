"""A template, and a stack as a client of the embedded CloudFormation sees it."""

from tests.helpers.waiting import until

TRUST = """
        Version: "2012-10-17"
        Statement: [{Effect: Allow, Principal: {Service: ecs-tasks.amazonaws.com}, Action: "sts:AssumeRole"}]
"""
TEMPLATE = f"""
Description: A role, a group, and a log group of a given name
Parameters:
  Policy: {{Type: String, Default: ""}}
  Days: {{Type: Number, Default: 7}}
  LogGroup: {{Type: String}}
  KeepsLog: {{Type: String, Default: Delete, AllowedValues: [Delete, Retain]}}
Conditions:
  HasPolicy: !Not [!Equals [!Ref Policy, ""]]
Resources:
  Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument: {TRUST}
      ManagedPolicyArns: !If [HasPolicy, [!Ref Policy], !Ref "AWS::NoValue"]
  Group:
    Type: AWS::EC2::SecurityGroup
    Properties: {{GroupDescription: !Sub "of ${{AWS::StackName}}"}}
  Log:
    Type: AWS::Logs::LogGroup
    DependsOn: [Role, Group]
    Properties: {{LogGroupName: !Ref LogGroup, RetentionInDays: !Ref Days}}
Outputs:
  Arn: {{Value: !GetAtt Role.Arn}}
  Short: {{Value: !Join ["-", [!Select [1, !Split [":", "a:b"]], !Ref Days]]}}
"""


class Stack:
    """A stack as a client of CloudFormation sees it."""

    def __init__(self, cloud, name):
        self.cloud, self.name, self.id = cloud, name, None

    def call(self, operation, **arguments):
        return self.cloud.call("cloudformation", operation, StackName=self.name, **arguments)

    def begin(self, operation="create_stack", template=TEMPLATE, **parameters):
        pairs = [{"ParameterKey": key, "ParameterValue": str(value)} for key, value in parameters.items()]
        answer = self.call(operation, TemplateBody=template, Parameters=pairs, Capabilities=["CAPABILITY_NAMED_IAM"])
        self.id = answer["StackId"]

    def make(self, *args, **parameters):
        """Create or update the stack, and return its final status."""
        self.begin(*args, **parameters)
        return self.settled()

    def delete(self):
        self.call("delete_stack")
        return self.settled()

    def state(self):
        return self.cloud.call("cloudformation", "describe_stacks", StackName=self.id)["Stacks"][0]

    def settled(self):
        """Wait until no operation is in progress, and return the stack's status."""
        until(lambda: not self.state()["StackStatus"].endswith("_IN_PROGRESS"))
        return self.state()["StackStatus"]

    def events(self):
        """Return (logical id, status, reason) for each event, oldest first within a page."""
        pages = self.cloud.pages("cloudformation", "describe_stack_events", StackName=self.id)
        return [
            (row["LogicalResourceId"], row["ResourceStatus"], row.get("ResourceStatusReason", ""))
            for page in pages
            for row in reversed(page["StackEvents"])
        ]

    def role(self):
        """Return the name of the stack's role."""
        rows = self.call("describe_stack_resources")["StackResources"]
        return next(row["PhysicalResourceId"] for row in rows if row["LogicalResourceId"] == "Role")
