"""What others see of a running controller: metrics for Prometheus, and a page for people.

`recorder` is what the controller's loop tells; `families` is what is exported, as values;
`exposition` and `server` need prometheus_client and are imported only to serve.
"""
