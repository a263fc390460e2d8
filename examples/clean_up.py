"""See which knots there are, and leave nothing behind."""

import cloudknot as ck


def cube(x):
    return x**3


knot = ck.Knot(name="cubes", func=cube, pars=ck.Pars("to-be-removed"))
print(knot.map([1, 2, 3]).result())

# Every knot of the account in the region, whoever made it and wherever.
for found in ck.list_knots():
    print(found.name, found.status, found.pars, found.min_vcpus)

# Its jobs, its resources, its images, its results, and what it shares with other knots.
knot.clobber(clobber_pars=True, clobber_image=True, clobber_results=True)
print([found.name for found in ck.list_knots() if found.name == "cubes"])
