"""Nova virt driver that forwards every call over gRPC to nova-docker-agent.

The way of one call: Nova imports nova.virt.docker (_finder, nova_virt_docker) and calls a method of the driver
(driver, which has one module for each larger subject: spawn, snapshot, host, watch, service_record). The method
converts what Nova gave it into a message (guest, interfaces), the agent's client (agent) sends it with the gRPC client
(rpc/), and what comes back as an error becomes the exception that Nova's manager understands (errors).

This module stays empty of imports: it is loaded whenever a Python of this environment starts.
"""
