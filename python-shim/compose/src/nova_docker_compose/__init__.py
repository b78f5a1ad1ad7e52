"""Compose on Nova: `openstack container compose`.

The way of a file: `reader` reads YAML, `interpolation` fills in variables, `documents` checks each key by the table in
`keys` and brings it into Compose's long form, `merging` lays files over each other, and `loader` makes a `Project` of
it all. The way into the cloud: `translation` says what each service becomes, or why it cannot; `cloud` finds what a
project has there; `up` and its neighbours bring the one to the other. `commands` is what a user types.
"""
