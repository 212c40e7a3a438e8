"""Trust policies: parse, choose, judge, explain. Pure: values in, values out; no keys, no network, no clock."""
