"""Chaos: the agent as it is installed, a real API server and etcd, and a seeded schedule of accidents between them.

    python -m tests.chaos --seeds 200     two hundred schedules; exit 1 if one of them ends badly
    python -m tests.chaos --seed 17       one schedule again, with its story

A seed decides which revisions are pushed, what goes wrong and at which write of the agent. Whatever the schedule was,
the cluster must end equal to the last revision: nothing foreign touched, no orphan, nothing deleted twice, nothing that
was deleted come back.
"""
