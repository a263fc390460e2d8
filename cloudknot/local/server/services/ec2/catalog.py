"""What EC2 offers: zones, instance types and machine images. And key pairs, which open no machine here."""

from __future__ import annotations

import gzip
import json
from typing import Any

from cloudknot.local.directory.documents import Document
from cloudknot.local.directory.state import ACCOUNT, REGION
from cloudknot.local.iam.requests.operations import Operation, Request
from cloudknot.local.server.services.ec2.resources import KINDS, Ec2Resources, described, now
from cloudknot.local.server.services.moto_files import moto_file
from cloudknot.local.wsgi import Answer, ServiceError

ZONES = {f"{REGION}{letter}": f"use1-az{number}" for letter, number in zip("abcdef", (6, 1, 2, 4, 3, 5), strict=True)}
"""The availability zones and their ids."""


def published(name: str) -> Any:
    """Return AWS's published data in a file that comes with moto."""
    with gzip.open(moto_file("ec2", "resources", name), "rt", encoding="utf-8") as stream:
        return json.load(stream)


class Offers:
    """The operations on the offers of EC2.

    Parameters
    ----------
    resources : Ec2Resources
    """

    def __init__(self, resources: Ec2Resources) -> None:
        self._resources = resources
        self.operations: dict[str, Operation] = {
            "DescribeAvailabilityZones": self._zones,
            "DescribeInstanceTypes": self._types,
            "DescribeInstanceTypeOfferings": self._offerings,
            "DescribeImages": self._images,
            "RegisterImage": self._register_image,
            "DisableImage": self._disable_image,
            "DeregisterImage": self._deregister_image,
            "CreateKeyPair": self._create_key_pair,
            "DeleteKeyPair": self._delete_key_pair,
            "DescribeKeyPairs": self._key_pairs,
        }

    def _zones(self, request: Request) -> Answer:
        rows = [
            {
                "ZoneName": name,
                "ZoneId": identifier,
                "State": "available",
                "OptInStatus": "opt-in-not-required",
                "RegionName": REGION,
                "GroupName": REGION,
                "NetworkBorderGroup": REGION,
                "ZoneType": "availability-zone",
                "Messages": [],
            }
            for name, identifier in ZONES.items()
        ]
        names = request.get("ZoneNames")
        rows = [row for row in rows if not names or row["ZoneName"] in names]
        return described("DescribeAvailabilityZones", "AvailabilityZones", rows, request)

    def _types(self, request: Request) -> Answer:
        types = published("instance_types.json.gz")
        names = request.get("InstanceTypes") or list(types)
        if missing := [name for name in names if name not in types]:
            message = f"The following supplied instance types do not exist: [{', '.join(missing)}]"
            raise ServiceError("InvalidInstanceType", message)
        return described("DescribeInstanceTypes", "InstanceTypes", [types[name] for name in names], request)

    def _offerings(self, request: Request) -> Answer:
        kind = request.get("LocationType", "region")
        # Nobody has an outpost here.
        rows = published(f"instance_type_offerings/{kind}/{REGION}.json.gz") if kind != "outpost" else []
        rows = [{**row, "LocationType": kind} for row in rows]
        return described("DescribeInstanceTypeOfferings", "InstanceTypeOfferings", rows, request)

    def _images(self, request: Request) -> Answer:
        images = {
            item["ImageId"]: item
            for item in (*map(_image, published("amis.json.gz")), *self._resources.of["image"].all())
        }
        wanted = request.get("ImageIds") or list(images)
        if missing := [identifier for identifier in wanted if identifier not in images]:
            raise ServiceError(KINDS["image"].missing, f"The image id '[{', '.join(missing)}]' does not exist")
        return described("DescribeImages", "Images", [images[identifier] for identifier in wanted], request)

    def _register_image(self, request: Request) -> Answer:
        document = {
            "Name": request["Name"],
            "Description": request.get("Description", ""),
            "State": "available",
            "OwnerId": ACCOUNT,
            "Public": False,
            "Architecture": request.get("Architecture", "x86_64"),
            "RootDeviceType": "ebs",
            "RootDeviceName": request.get("RootDeviceName", "/dev/sda1"),
            "ImageType": "machine",
            "VirtualizationType": "hvm",
            "CreationDate": now(),
        }
        return {"ImageId": self._resources.add("image", document, request)["ImageId"]}

    def _disable_image(self, request: Request) -> Answer:
        image = self._resources.get("image", request["ImageId"])
        self._resources.put("image", {**image, "State": "disabled"})
        return {"Return": True}

    def _deregister_image(self, request: Request) -> Answer:
        self._resources.delete("image", request["ImageId"])
        return {"Return": True}

    def _create_key_pair(self, request: Request) -> Answer:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        name = request["KeyName"]
        if self._resources.matching("key-pair", KeyName=name):
            raise ServiceError("InvalidKeyPair.Duplicate", f"The keypair '{name}' already exists.")
        key = Ed25519PrivateKey.generate()
        material = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
        # Only the caller gets the private key, as on AWS.
        pair = self._resources.add("key-pair", {"KeyName": name, "KeyType": "ed25519", "CreateTime": now()}, request)
        return {**pair, "KeyMaterial": material}

    def _delete_key_pair(self, request: Request) -> Answer:
        for pair in self._resources.of["key-pair"].all():
            if pair["KeyPairId"] == request.get("KeyPairId") or pair["KeyName"] == request.get("KeyName"):
                self._resources.delete("key-pair", pair["KeyPairId"])
        return {"Return": True}

    def _key_pairs(self, request: Request) -> Answer:
        names = request.get("KeyNames")
        pairs = self._resources.of["key-pair"].all()
        if missing := sorted(set(names or ()) - {pair["KeyName"] for pair in pairs}):
            raise ServiceError(KINDS["key-pair"].missing, f"The key pair '{missing[0]}' does not exist")
        rows = [pair for pair in pairs if not names or pair["KeyName"] in names]
        return described("DescribeKeyPairs", "KeyPairs", rows, request)


def _image(entry: Document) -> Document:
    """Return an entry of the published images in the form of EC2."""
    words = {"ami_id": "ImageId", "image_location": "ImageLocation", "sriov": "SriovNetSupport", "public": "Public"}
    camel = {words.get(key, "".join(part.title() for part in key.split("_"))): value for key, value in entry.items()}
    codes = [{"ProductCodeId": code, "ProductCodeType": "marketplace"} for code in entry.get("product_codes", ())]
    created = str(entry.get("creation_date", "2018-01-01T00:00:00.000Z"))
    return {**camel, "Tags": [], "ProductCodes": codes, "CreationDate": created}
