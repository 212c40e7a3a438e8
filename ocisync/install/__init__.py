"""Everything the agent needs in a cluster, as ordered objects: CRDs, namespace, RBAC, workload."""
