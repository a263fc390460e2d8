"""Print the commands that run one element of a map again, by hand, on the embedded cloud."""

import cloudknot as ck


def checked(x):
    if x == 3:
        raise ValueError("three is not accepted")
    return x


cloud = ck.LocalCloud()
knot = ck.Knot(name="checked", func=checked, cloud=cloud)
future = knot.map(range(5))
print(future[3].exception())

job = future.job
image = job.manifest.image.rpartition(":")[2]  # the tag is the name of the image's directory
print('eval "$(cloudknot local env)"')
print(f"cd {cloud.directory}/images/{image}")
print(f"environment/bin/python -m cloudknot_worker {job.keys.url} --element 3")
