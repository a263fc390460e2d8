"""The permissions that CloudFormation's own resource handlers need. Data only.

Source: the public resource schemas of CloudFormation's registry, "handlers". A test compares them to cfn-lint's.
The lists are upper bounds: they include permissions for properties that cloudknot's templates do not have. Operations
on stacks call no handler "list". The type AWS::CodeBuild::Project publishes no handlers.
"""

from __future__ import annotations

from collections.abc import Mapping

HANDLER_PERMISSIONS: Mapping[str, Mapping[str, str]] = {
    "AWS::EC2::VPC": {
        "create": (
            "ec2:CreateTags ec2:CreateVpc ec2:CreateVpcEncryptionControl ec2:DescribeVpcAttribute "
            "ec2:DescribeVpcs ec2:ModifyVpcAttribute"
        ),
        "read": (
            "ec2:DescribeNetworkAcls ec2:DescribeSecurityGroups ec2:DescribeVpcAttribute "
            "ec2:DescribeVpcEncryptionControls ec2:DescribeVpcs"
        ),
        "update": "ec2:CreateTags ec2:DeleteTags ec2:DescribeVpcAttribute ec2:ModifyVpcAttribute ec2:ModifyVpcTenancy",
        "delete": "ec2:DeleteVpc ec2:DescribeVpcs",
    },
    "AWS::EC2::Subnet": {
        "create": "ec2:CreateSubnet ec2:CreateTags ec2:DescribeSubnets ec2:ModifySubnetAttribute",
        "read": "ec2:DescribeNetworkAcls ec2:DescribeSubnets",
        "update": (
            "ec2:AssociateSubnetCidrBlock ec2:CreateTags ec2:DeleteTags ec2:DescribeSubnets "
            "ec2:DisassociateSubnetCidrBlock ec2:ModifySubnetAttribute"
        ),
        "delete": "ec2:DeleteSubnet ec2:DescribeSubnets",
    },
    "AWS::EC2::InternetGateway": {
        "create": "ec2:CreateInternetGateway ec2:CreateTags ec2:DescribeInternetGateways",
        "read": "ec2:DescribeInternetGateways",
        "update": "ec2:CreateTags ec2:DeleteTags ec2:DescribeInternetGateways",
        "delete": "ec2:DeleteInternetGateway ec2:DescribeInternetGateways",
    },
    "AWS::EC2::RouteTable": {
        "create": "ec2:CreateRouteTable ec2:CreateTags ec2:DescribeRouteTables",
        "read": "ec2:DescribeRouteTables",
        "update": "ec2:CreateTags ec2:DeleteTags ec2:DescribeRouteTables",
        "delete": "ec2:DeleteRouteTable ec2:DescribeRouteTables",
    },
    "AWS::EC2::VPCGatewayAttachment": {
        "create": (
            "ec2:AttachInternetGateway ec2:AttachVpnGateway ec2:DescribeInternetGateways ec2:DescribeVpnGateways"
        ),
        "read": "ec2:DescribeInternetGateways ec2:DescribeVpnGateways",
        "update": (
            "ec2:AttachInternetGateway ec2:AttachVpnGateway ec2:DescribeInternetGateways ec2:DescribeVpnGateways "
            "ec2:DetachInternetGateway ec2:DetachVpnGateway"
        ),
        "delete": (
            "ec2:DescribeInternetGateways ec2:DescribeVpnGateways ec2:DetachInternetGateway ec2:DetachVpnGateway"
        ),
    },
    "AWS::EC2::Route": {
        "create": "ec2:CreateRoute ec2:DescribeNetworkInterfaces ec2:DescribeRouteTables",
        "read": "ec2:DescribeRouteTables",
        "update": "ec2:DescribeNetworkInterfaces ec2:DescribeRouteTables ec2:ReplaceRoute",
        "delete": "ec2:DeleteRoute ec2:DescribeRouteTables",
    },
    "AWS::EC2::SubnetRouteTableAssociation": {
        "create": (
            "ec2:AssociateRouteTable ec2:DescribeRouteTables ec2:DescribeSubnets ec2:ReplaceRouteTableAssociation"
        ),
        "read": "ec2:DescribeRouteTables",
        "delete": "ec2:DescribeRouteTables ec2:DescribeSubnets ec2:DisassociateRouteTable",
    },
    "AWS::EC2::VPCEndpoint": {
        "create": (
            "ec2:CreateTags ec2:CreateVpcEndpoint ec2:DeleteTags ec2:DescribeSecurityGroups ec2:DescribeSubnets "
            "ec2:DescribeVpcEndpoints ec2:DescribeVpcs vpc-lattice:CreateServiceNetworkVpcEndpointAssociation "
            "vpc-lattice:DescribeServiceNetworkVpcEndpointAssociation vpce:AllowMultiRegion"
        ),
        "read": (
            "ec2:DescribeSecurityGroups ec2:DescribeSubnets ec2:DescribeVpcEndpoints ec2:DescribeVpcs "
            "vpc-lattice:DescribeServiceNetworkVpcEndpointAssociation"
        ),
        "update": (
            "ec2:CreateTags ec2:DeleteTags ec2:DescribeSecurityGroups ec2:DescribeSubnets "
            "ec2:DescribeVpcEndpoints ec2:DescribeVpcs ec2:ModifyVpcEndpoint "
            "vpc-lattice:CreateServiceNetworkVpcEndpointAssociation "
            "vpc-lattice:DescribeServiceNetworkVpcEndpointAssociation vpce:AllowMultiRegion"
        ),
        "delete": (
            "ec2:CreateTags ec2:DeleteTags ec2:DeleteVpcEndpoints ec2:DescribeSecurityGroups ec2:DescribeSubnets "
            "ec2:DescribeVpcEndpoints ec2:DescribeVpcs vpc-lattice:DescribeServiceNetworkVpcEndpointAssociation "
            "vpce:AllowMultiRegion"
        ),
    },
    "AWS::EC2::SecurityGroup": {
        "create": (
            "ec2:AuthorizeSecurityGroupEgress ec2:AuthorizeSecurityGroupIngress ec2:CreateSecurityGroup "
            "ec2:CreateTags ec2:DescribeSecurityGroups ec2:RevokeSecurityGroupEgress"
        ),
        "read": "ec2:DescribeSecurityGroups",
        "update": (
            "ec2:AuthorizeSecurityGroupEgress ec2:AuthorizeSecurityGroupIngress ec2:CreateTags ec2:DeleteTags "
            "ec2:DescribeSecurityGroups ec2:RevokeSecurityGroupEgress ec2:RevokeSecurityGroupIngress "
            "ec2:UpdateSecurityGroupRuleDescriptionsEgress ec2:UpdateSecurityGroupRuleDescriptionsIngress"
        ),
        "delete": "ec2:DeleteSecurityGroup ec2:DescribeInstances ec2:DescribeSecurityGroups",
    },
    "AWS::EC2::LaunchTemplate": {
        "create": "ec2:CreateLaunchTemplate ec2:CreateTags",
        "read": "ec2:DescribeLaunchTemplates",
        "update": "ec2:CreateLaunchTemplateVersion ec2:CreateTags ec2:DeleteTags",
        "delete": "ec2:DeleteLaunchTemplate ec2:DeleteTags ec2:DescribeLaunchTemplates",
    },
    "AWS::IAM::Role": {
        "create": (
            "iam:AttachRolePolicy iam:CreateRole iam:GetRole iam:GetRolePolicy iam:PutRolePolicy iam:TagRole "
            "iam:UntagRole"
        ),
        "read": "iam:GetRole iam:GetRolePolicy iam:ListAttachedRolePolicies iam:ListRolePolicies",
        "update": (
            "iam:AttachRolePolicy iam:DeleteRolePermissionsBoundary iam:DeleteRolePolicy iam:DetachRolePolicy "
            "iam:PutRolePermissionsBoundary iam:PutRolePolicy iam:TagRole iam:UntagRole "
            "iam:UpdateAssumeRolePolicy iam:UpdateRole iam:UpdateRoleDescription"
        ),
        "delete": (
            "iam:DeleteRole iam:DeleteRolePolicy iam:DetachRolePolicy iam:GetRole iam:ListAttachedRolePolicies "
            "iam:ListRolePolicies iam:TagRole iam:UntagRole"
        ),
    },
    "AWS::IAM::InstanceProfile": {
        "create": "iam:AddRoleToInstanceProfile iam:CreateInstanceProfile iam:GetInstanceProfile iam:PassRole",
        "read": "iam:GetInstanceProfile",
        "update": "iam:AddRoleToInstanceProfile iam:GetInstanceProfile iam:PassRole iam:RemoveRoleFromInstanceProfile",
        "delete": "iam:DeleteInstanceProfile iam:GetInstanceProfile iam:RemoveRoleFromInstanceProfile",
    },
    "AWS::Logs::LogGroup": {
        "create": (
            "firehose:TagDeliveryStream logs:CreateLogDelivery logs:CreateLogGroup logs:DescribeIndexPolicies "
            "logs:DescribeLogGroups logs:DescribeResourcePolicies logs:GetDataProtectionPolicy "
            "logs:PutBearerTokenAuthentication logs:PutDataProtectionPolicy logs:PutIndexPolicy "
            "logs:PutResourcePolicy logs:PutRetentionPolicy logs:TagResource s3:REST.PUT.OBJECT"
        ),
        "read": (
            "logs:DescribeIndexPolicies logs:DescribeLogGroups logs:DescribeResourcePolicies "
            "logs:GetDataProtectionPolicy logs:ListTagsForResource"
        ),
        "update": (
            "firehose:TagDeliveryStream logs:AssociateKmsKey logs:CreateLogDelivery logs:DeleteIndexPolicy "
            "logs:DeleteResourcePolicy logs:DeleteRetentionPolicy logs:DescribeLogGroups "
            "logs:DescribeResourcePolicies logs:DisassociateKmsKey logs:GetDataProtectionPolicy "
            "logs:ListTagsForResource logs:PutBearerTokenAuthentication logs:PutDataProtectionPolicy "
            "logs:PutIndexPolicy logs:PutLogGroupDeletionProtection logs:PutResourcePolicy "
            "logs:PutRetentionPolicy logs:TagResource logs:UntagResource s3:REST.PUT.OBJECT"
        ),
        "delete": "logs:DeleteDataProtectionPolicy logs:DeleteLogGroup logs:DescribeLogGroups",
    },
    "AWS::Batch::JobDefinition": {
        "create": "batch:DescribeJobDefinitions batch:RegisterJobDefinition batch:TagResource iam:PassRole",
        "read": "batch:DescribeJobDefinitions",
        "update": (
            "batch:DeregisterJobDefinition batch:DescribeJobDefinitions batch:RegisterJobDefinition "
            "batch:TagResource batch:UntagResource iam:PassRole"
        ),
        "delete": "batch:DeregisterJobDefinition batch:DescribeJobDefinitions iam:PassRole",
    },
    "AWS::Batch::ComputeEnvironment": {
        "create": (
            "batch:CreateComputeEnvironment batch:DescribeComputeEnvironments batch:SetCapacityTags "
            "batch:TagResource ec2:DescribeLaunchTemplateVersions eks:AssociateAccessPolicy eks:CreateAccessEntry "
            "eks:DeleteAccessEntry eks:DescribeAccessEntry eks:DescribeCluster eks:ListAssociatedAccessPolicies "
            "iam:CreateServiceLinkedRole iam:PassRole"
        ),
        "read": "batch:DescribeComputeEnvironments",
        "update": (
            "batch:DescribeComputeEnvironments batch:SetCapacityTags batch:TagResource batch:UnTagResource "
            "batch:UpdateComputeEnvironment ec2:DescribeLaunchTemplateVersions eks:AssociateAccessPolicy "
            "eks:CreateAccessEntry eks:DeleteAccessEntry eks:DescribeAccessEntry eks:DescribeCluster "
            "eks:ListAssociatedAccessPolicies iam:PassRole"
        ),
        "delete": (
            "batch:DeleteComputeEnvironment batch:DescribeComputeEnvironments batch:UpdateComputeEnvironment "
            "ec2:DescribeLaunchTemplateVersions eks:AssociateAccessPolicy eks:CreateAccessEntry "
            "eks:DeleteAccessEntry eks:DescribeAccessEntry eks:DescribeCluster eks:ListAssociatedAccessPolicies "
            "iam:PassRole"
        ),
    },
    "AWS::Batch::JobQueue": {
        "create": "batch:CreateJobQueue batch:DescribeJobQueues batch:TagResource",
        "read": "batch:DescribeJobQueues",
        "update": "batch:DescribeJobQueues batch:TagResource batch:UntagResource batch:UpdateJobQueue",
        "delete": "batch:DeleteJobQueue batch:DescribeJobQueues batch:UpdateJobQueue",
    },
}
"""IAM actions by type of resource and operation of its handler."""
