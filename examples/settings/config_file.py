"""Change settings, in a file for this example alone."""

import os
import tempfile

import cloudknot as ck

# Without this line the file is ~/.aws/cloudknot.
os.environ["CLOUDKNOT_CONFIG_FILE"] = os.path.join(tempfile.mkdtemp(), "cloudknot")

# A bucket of another account is used only with its owner.
ck.set_s3_params(bucket="lab-data", owner="111122223333")

ck.set_region("eu-west-1")
ck.set_s3_params(bucket="my-own-bucket")
ck.set_ecr_repo("lab/images")
print(ck.get_region(), ck.get_s3_params().bucket, ck.get_ecr_repo())

try:
    ck.set_region("eu-west-11")
except ck.RegionException as error:
    print(error)
