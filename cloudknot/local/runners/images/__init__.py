"""Images of the embedded cloud: directories with a virtual environment each.

::

    <cloud's directory>/images/<tag>/            the build context, and a link to its environment
    <cloud's directory>/environments/<digest>/   a virtual environment with exactly the locked packages
    <cloud's directory>/environments/.packages/  packages that were copied from the user's own Python

Images with the same lock share an environment. ``CLOUDKNOT_LOCAL_ENVIRONMENTS`` names another directory for
environments, for several clouds together.

::

    store          write an image and link it to its environment
    environments   build an environment, once for each digest
    installed      copy packages from the user's own Python
    contents       the files of an environment: as their packages list them, and as they are
    usage          which environments are in use, and when each was used last
    prune          remove unused images and environments
"""
