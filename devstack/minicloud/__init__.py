"""A single-node OpenStack cloud with nova-docker-agent as its compute service.

How one `mini up` travels through the package:

    cli          the subcommands and their help
    up           what has to happen in which order, as a graph of tasks (tasks)
    host         what the machine must be like; ports, kernel datapath, leftovers of a crash
    packages     Debian packages without starting a service; the virtual environment from the lock file
    agent_build  the release build of the agent
    criu         CRIU, with which the agent suspends servers to disk
    certificates the authority and certificate of the registry
    config/      every configuration file, rendered from (Layout, Passwords, Options)
    programs     the table of processes: command, environment, files that it depends on
    supervisor   supervisord: its configuration and its RPC socket
    database, broker, openvswitch
                 the parts below OpenStack, and the database schemas
    images/      the tar files that become Glance images, made without Docker
    seed, demo   what is created through the public APIs (these two run in the virtual environment)
    status, check, teardown, namespaces
                 what is running; whether the host is fit for the agent; how to remove all of it

    supervisord_main, chunked_wsgi, standin_agent, dhcp_watch
                 run inside processes of the cloud

Everything but those four, seed and demo uses the standard library only, because it runs before the virtual
environment exists.
"""
