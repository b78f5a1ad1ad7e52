"""DockerInc::Docker::Container for Heat.

container       the resource: what Heat calls, and when a container counts as created, gone, stopped
schema          its properties and attributes
configuration   properties to what Docker's API takes
engine          one Docker as the resource uses it, with errors that say what failed
endpoint        where Docker listens: addresses, and those that nobody may name
transport       HTTP to an endpoint of somebody else's: bounded, and with the template's certificates
options         the section [docker_container] of heat.conf
"""
