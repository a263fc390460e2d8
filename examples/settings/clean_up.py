"""List all knots, and delete one with everything that belongs to it."""

import cloudknot as ck


def cube(x):
    return x**3


knot = ck.Knot(name="cubes", func=cube, pars=ck.Pars("to-be-removed"))
print(knot.map([1, 2, 3]).result())

# All knots in the account and region, also those of other people.
for info in ck.list_knots():
    print(info.name, info.status, info.pars, info.min_vcpus)

# Delete its jobs, resources, images and results, and the Pars that it uses.
knot.clobber(clobber_pars=True, clobber_image=True, clobber_results=True)
print([info.name for info in ck.list_knots() if info.name == "cubes"])
